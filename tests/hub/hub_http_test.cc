// SPDX-License-Identifier: Apache-2.0
// Addresses, ETags, blobs and messages; whole downloads are in tests/e2e/pull_test.py.
#include "hub/hub_http.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "expect_error.h"
#include "hub/hub_blob.h"
#include "hub/hub_client.h"
#include "temp_folder.h"

namespace puna {
namespace {

namespace fs = std::filesystem;

TEST(Url, OriginIsWhatATokenBelongsTo) {
  EXPECT_EQ(url_origin("https://Hub.example/a?b"), "https://hub.example:443");
  EXPECT_EQ(url_origin("http://127.0.0.1:8080/a"), "http://127.0.0.1:8080");
  EXPECT_NE(url_origin("http://hub.example/"), url_origin("https://hub.example/"));
  EXPECT_NE(url_origin("http://hub.example:1/"), url_origin("http://hub.example:2/"));
  EXPECT_EQ(url_origin("https://hub.example@evil.example/"), "https://evil.example:443") << "a user name is no host";
  for (const char* url : {"ftp://host/", "file:///etc/passwd", "", "://"}) EXPECT_EQ(url_origin(url), "") << url;
}

TEST(Url, Resolves) {
  EXPECT_EQ(resolve_url("https://h/a/b", "/c/d"), "https://h/c/d");
  EXPECT_EQ(resolve_url("https://h/a/b", "https://other/x?y=1"), "https://other/x?y=1");
  EXPECT_EQ(resolve_url("https://h/a/b", ""), "");
  EXPECT_EQ(escape_url_path("a b/c#d%.json"), "a%20b/c%23d%25.json");
}

TEST(Etag, Plain) {
  EXPECT_EQ(plain_etag("\"abc\""), "abc");
  EXPECT_EQ(plain_etag("W/\"abc\""), "abc");
  EXPECT_EQ(plain_etag("abc"), "abc");
}

TEST(HubStatus, SaysWhatToDo) {
  const HubOptions without{"https://hub", "", false}, with{"https://hub", "t", false};
  const auto reply = [](long status, const std::string& code) {
    HubReply value;
    value.status = status;
    if (!code.empty()) value.headers["x-error-code"] = code;
    return value;
  };
  expect_error(ErrorKind::kNetwork, "accept its licence at https://hub/org/m and set HF_TOKEN",
               [&] { fail_hub_status(reply(401, "GatedRepo"), without, "org/m", "x"); });
  expect_error(ErrorKind::kNetwork, "the token in HF_TOKEN was sent", [&] { fail_hub_status(reply(403, ""), with, "org/m", "x"); });
  expect_error(ErrorKind::kNotFound, "there is no such file",
               [&] { fail_hub_status(reply(404, "EntryNotFound"), with, "org/m", "x"); });
  expect_error(ErrorKind::kNetwork, "the hub answered 418", [&] { fail_hub_status(reply(418, ""), with, "org/m", "x"); });
}

// Digests from sha256sum and git hash-object.
constexpr const char* kSha256OfHello = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
constexpr const char* kGitSha1OfHello = "ce013625030ba8dba906f756967f9e9ca394464a";

class Blob : public testing::Test {
 protected:
  TempFolder temporary_;
  fs::path folder_ = temporary_.path();
};

TEST_F(Blob, BothHashes) {
  for (const char* etag : {kSha256OfHello, kGitSha1OfHello}) {
    BlobFile blob(folder_, etag, 6);
    blob.append("hel");
    blob.append("lo\n");
    blob.finish("hello.txt");
    EXPECT_EQ(fs::file_size(folder_ / etag), 6U);
    EXPECT_FALSE(fs::exists(folder_ / (std::string(etag) + ".incomplete")));
  }
}

TEST_F(Blob, GoesOnFromWhatIsThere) {
  std::ofstream(folder_ / (std::string(kSha256OfHello) + ".incomplete")) << "hel";
  BlobFile blob(folder_, kSha256OfHello, 6);
  EXPECT_EQ(blob.length(), 3);
  blob.append("lo\n");
  blob.finish("hello.txt");
  EXPECT_TRUE(fs::exists(folder_ / kSha256OfHello));
}

TEST_F(Blob, WrongBytesAreRemoved) {
  for (const char* etag : {kSha256OfHello, kGitSha1OfHello}) {
    BlobFile blob(folder_, etag, 6);
    blob.append("HELLO\n");
    expect_error(ErrorKind::kBadInput, std::string("expected ") + etag + ": it was removed, run puna pull again",
                 [&] { blob.finish("hello.txt"); });
    EXPECT_TRUE(fs::is_empty(folder_));
  }
}

TEST_F(Blob, TooShortTooLongAndTooMuchBefore) {
  std::ofstream(folder_ / (std::string(kSha256OfHello) + ".incomplete")) << "much more than six";
  BlobFile blob(folder_, kSha256OfHello, 6);
  EXPECT_EQ(blob.length(), 0);
  blob.append("hel");
  expect_error(ErrorKind::kNetwork, "3 of 6 bytes came", [&] { blob.finish("hello.txt"); });
  expect_error(ErrorKind::kNetwork, "more than the 6 bytes that the hub announced", [&] { blob.append("hello\n"); });
}

TEST_F(Blob, DoesNotFollowALink) {
  fs::create_symlink(folder_ / "elsewhere", folder_ / (std::string(kSha256OfHello) + ".incomplete"));
  expect_error(ErrorKind::kBadInput, "cannot write here", [&] { BlobFile blob(folder_, kSha256OfHello, 6); });
  EXPECT_FALSE(fs::exists(folder_ / "elsewhere"));
}

}  // namespace
}  // namespace puna
