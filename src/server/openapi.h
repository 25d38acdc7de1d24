// SPDX-License-Identifier: Apache-2.0
// All that the server has, as an OpenAPI 3.1 document. It is made of the route table, of the tables that requests are checked
// against, so what it says of a field is what is done, and of the schemas of answers (response_schemas.h).
#pragma once

#include <span>
#include <string>

#include "base/json.h"
#include "server/request_json.h"
#include "server/router.h"

namespace puna {

Json openapi_document(std::span<const Route> routes, const std::string& version);

// The JSON schema of what check_fields() takes.
Json fields_schema(std::span<const FieldRule> rules);

}  // namespace puna
