// SPDX-License-Identifier: Apache-2.0
#include "hub/hub_blob.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/error.h"

namespace puna {

namespace fs = std::filesystem;

// Of the kind that the etag's length names; none for other lengths.
struct BlobFile::Digest {
  Digest(const std::string& etag, std::int64_t size) {
    const bool hexadecimal = std::all_of(etag.begin(), etag.end(), [](unsigned char c) { return std::isxdigit(c) != 0; });
    const bool sha1 = hexadecimal && etag.size() == 40 && size >= 0;
    kind = !hexadecimal ? nullptr : etag.size() == 64 ? EVP_sha256() : sha1 ? EVP_sha1() : nullptr;
    if (sha1) prefix = "blob " + std::to_string(size) + '\0';
    reset();
  }
  ~Digest() { EVP_MD_CTX_free(context); }

  void reset() {
    if (kind == nullptr) return;
    PUNA_CHECK(EVP_DigestInit_ex(context, kind, nullptr) == 1, "hub_blob", "OpenSSL has no such digest");
    update(prefix);
  }
  void update(std::string_view bytes) {
    if (kind != nullptr) EVP_DigestUpdate(context, bytes.data(), bytes.size());
  }
  std::string finish() {
    if (kind == nullptr) return "";
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    EVP_DigestFinal_ex(context, bytes, &size);
    std::string text;
    for (unsigned int i = 0; i < size; ++i) text += fmt::format("{:02x}", bytes[i]);
    return text;
  }

  EVP_MD_CTX* context = EVP_MD_CTX_new();
  const EVP_MD* kind = nullptr;
  std::string prefix;
};

BlobFile::BlobFile(const fs::path& blobs, const std::string& etag, std::int64_t size)
    : final_(blobs / etag),
      path_(blobs / (etag + ".incomplete")),
      etag_(etag),
      size_(size),
      digest_(std::make_unique<Digest>(etag, size)) {
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (descriptor_ < 0) fail(ErrorKind::kBadInput, path_.string(), "cannot write here: {}", std::strerror(errno));
  take_in_existing();
}

BlobFile::~BlobFile() { ::close(descriptor_); }

void BlobFile::take_in_existing() {
  const off_t existing = ::lseek(descriptor_, 0, SEEK_END);
  if (size_ >= 0 && existing > size_) return restart();
  ::lseek(descriptor_, 0, SEEK_SET);
  std::string buffer(1 << 20, '\0');
  while (true) {
    const ssize_t got = ::read(descriptor_, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return restart();
    if (got == 0) return;
    digest_->update({buffer.data(), static_cast<std::size_t>(got)});
    length_ += got;
  }
}

void BlobFile::append(std::string_view bytes) {
  digest_->update(bytes);
  length_ += static_cast<std::int64_t>(bytes.size());
  if (size_ >= 0 && length_ > size_) {
    restart();
    fail(ErrorKind::kNetwork, final_.filename().string(), "more than the {} bytes that the hub announced came: run puna pull again",
         size_);
  }
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(ErrorKind::kNoRoom, path_.string(), "cannot write: {}", std::strerror(errno));
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

void BlobFile::restart() {
  if (::ftruncate(descriptor_, 0) != 0 || ::lseek(descriptor_, 0, SEEK_SET) != 0) {
    fail(ErrorKind::kBadInput, path_.string(), "cannot start this file anew: {}", std::strerror(errno));
  }
  length_ = 0;
  digest_->reset();
}

void BlobFile::finish(const std::string& name) {
  if (size_ >= 0 && length_ != size_) fail(ErrorKind::kNetwork, name, "{} of {} bytes came: run puna pull again", length_, size_);
  const std::string found = digest_->finish();
  if (!found.empty() && found != etag_) {
    ::unlink(path_.c_str());
    fail(ErrorKind::kBadInput, name, "the {} of what came is {}, expected {}: it was removed, run puna pull again",
         found.size() == 64 ? "SHA-256" : "git SHA-1", found, etag_);
  }
  if (::fsync(descriptor_) != 0) fail(ErrorKind::kNoRoom, path_.string(), "cannot write: {}", std::strerror(errno));
  std::error_code error;
  fs::rename(path_, final_, error);
  if (error) fail(ErrorKind::kBadInput, final_.string(), "cannot be put in place: {}", error.message());
}

FileLock::FileLock(const fs::path& path, const std::string& what) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail(ErrorKind::kBadInput, path.string(), "cannot write here: {}", std::strerror(errno));
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
  fmt::print(stderr, "puna: another program is downloading {}; waiting for it\n", what);
  while (::flock(descriptor_, LOCK_EX) != 0) {
    if (errno == EINTR) continue;
    const int code = errno;
    ::close(descriptor_);
    fail(ErrorKind::kBadInput, path.string(), "cannot be locked: {}", std::strerror(code));
  }
}

FileLock::~FileLock() { ::close(descriptor_); }

}  // namespace puna
