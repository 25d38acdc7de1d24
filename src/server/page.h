// SPDX-License-Identifier: Apache-2.0
// The web page inside the program: one HTML file with its script and style, compressed when it was built (web/README.md), and the
// content security policy that allows exactly those two.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace puna {

std::string_view page_gzip();    // as it is sent
const std::string& page_html();  // for clients that do not take gzip; unpacked once
std::string_view page_policy();
const std::string& page_etag();  // with its quotes

}  // namespace puna
