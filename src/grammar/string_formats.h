// SPDX-License-Identifier: Apache-2.0
// The values of JSON Schema's `format` that can be written exactly, as regular expressions that match the whole string. Each allows
// only what its standard allows, and less where that needs more than an automaton or is seldom wanted:
//   date, time, date-time   RFC 3339; years 1000 to 9999, 29 February in leap years only, no leap seconds, capital T and Z
//   duration                RFC 3339, appendix A
//   email, idn-email        RFC 5321's Mailbox without quotes: at most 63 characters, @, and a name of at most three labels
//   hostname, idn-hostname  RFC 1123, at most four labels of at most 61 characters, no two hyphens in a row
//   ipv4, ipv6, uuid        RFC 2673, RFC 4291 without a dotted end, RFC 9562
//   uri, iri                RFC 3986 with a name or IPv4 address for a host, or without an authority
//   uri-reference, iri-reference   the same, and absolute paths
//   json-pointer, relative-json-pointer   RFC 6901 and its draft
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace puna {

std::optional<std::string_view> format_pattern(std::string_view name);
// "date, time, …", for messages.
std::string format_names();

}  // namespace puna
