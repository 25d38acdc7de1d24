// SPDX-License-Identifier: Apache-2.0
#include "grammar/string_formats.h"

#include <utility>
#include <vector>

namespace puna {
namespace {

using Formats = std::vector<std::pair<std::string, std::string>>;

Formats date_formats() {
  const std::string day =
      R"((?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))";
  const std::string leap_year = R"((?:[1-9]\d(?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00))";
  const std::string date = R"((?:[1-9]\d{3}-(?:)" + day + ")|" + leap_year + "-02-29)";
  const std::string time = R"((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d))";
  const std::string clock = R"(T(?:\d{1,9}H(?:\d{1,9}M(?:\d{1,9}S)?)?|\d{1,9}M(?:\d{1,9}S)?|\d{1,9}S))";
  const std::string days = R"((?:\d{1,9}D|\d{1,9}M(?:\d{1,9}D)?|\d{1,9}Y(?:\d{1,9}M(?:\d{1,9}D)?)?))";
  return {{"date", date},
          {"time", time},
          {"date-time", date + "T" + time},
          {"duration", "P(?:" + days + "(?:" + clock + ")?|" + clock + R"(|\d{1,9}W))"}};
}

Formats host_formats() {
  const std::string label = "[A-Za-z0-9](?:-?[A-Za-z0-9]){0,30}";
  const std::string host = label + R"((?:\.)" + label + "){0,3}";
  const std::string atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]";
  const std::string email = atom + R"((?:\.?)" + atom + "){0,31}@" + label + R"((?:\.)" + label + "){1,2}";
  const std::string octet = R"((?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d))";
  const std::string hex = "[0-9A-Fa-f]{1,4}";
  std::string ipv6 = "(?:" + hex + ":){7}" + hex + "|(?:" + hex + ":){1,7}:|:(?:(?::" + hex + "){1,7}|:)";
  for (int before = 1; before <= 6; ++before) {  // groups up to here before ::, the others behind it
    ipv6 += "|(?:" + hex + ":){1," + std::to_string(before) + "}(?::" + hex + "){1," + std::to_string(7 - before) + "}";
  }
  const std::string pchar = R"((?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}))";
  const std::string tail = R"((?:\?(?:)" + pchar + "|[/?])*)?(?:#(?:" + pchar + "|[/?])*)?";
  const std::string user = R"((?:(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*@)?)";
  const std::string uri = "[A-Za-z][A-Za-z0-9+.-]*:(?://" + user + host + R"((?::\d{0,5})?(?:/)" + pchar + "*)*|" + pchar +
                          "(?:" + pchar + "|/)*)" + tail;
  const std::string reference = "(?:" + uri + "|/(?:" + pchar + "+(?:/" + pchar + "*)*)?" + tail + ")";
  return {{"email", email},
          {"idn-email", email},
          {"hostname", host},
          {"idn-hostname", host},
          {"ipv4", octet + R"((?:\.)" + octet + "){3}"},
          {"ipv6", ipv6},
          {"uri", uri},
          {"iri", uri},
          {"uri-reference", reference},
          {"iri-reference", reference}};
}

const Formats& formats() {
  static const Formats all = [] {
    Formats list = date_formats();
    for (auto& format : host_formats()) list.push_back(std::move(format));
    const std::string pointer = "(?:/(?:[^~/]|~[01])*)*";
    list.emplace_back("uuid", "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}");
    list.emplace_back("json-pointer", pointer);
    list.emplace_back("relative-json-pointer", R"((?:0|[1-9]\d{0,8})(?:#|)" + pointer + ")");
    return list;
  }();
  return all;
}

}  // namespace

std::optional<std::string_view> format_pattern(std::string_view name) {
  for (const auto& [known, pattern] : formats()) {
    if (known == name) return pattern;
  }
  return std::nullopt;
}

std::string format_names() {
  std::string names;
  for (const auto& [name, pattern] : formats()) names += (names.empty() ? "" : ", ") + name;
  return names;
}

}  // namespace puna
