// SPDX-License-Identifier: Apache-2.0
// What a request is answered with when it cannot be done, in the shape that the API's family has:
//   OpenAI     {"error": {"message", "type", "param", "code"}}
//   Anthropic  {"type": "error", "error": {"type", "message"}, "request_id"}
//   Ollama     {"error": "message"}
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "server/http.h"

namespace puna {

enum class ApiFamily { kOpenAi, kAnthropic, kOllama };

class ApiError : public std::runtime_error {
 public:
  ApiError(int status, std::string code, std::string param, const std::string& message)
      : std::runtime_error(message), status_(status), code_(std::move(code)), param_(std::move(param)) {}
  // Of an error from below. `kNoRoom` is a prompt longer than the context, `kInternal` says nothing of what happened.
  static ApiError from(const Error& error);

  int status() const { return status_; }
  const std::string& code() const { return code_; }        // "model_not_found", or empty
  const std::string& param() const { return param_; }      // "messages[0].role", or empty
  const HttpHeaders& headers() const { return headers_; }  // that its response has: when to come again, what the path takes
  ApiError& with_header(std::string name, std::string value) {
    headers_.emplace_back(std::move(name), std::move(value));
    return *this;
  }

 private:
  int status_;
  std::string code_, param_;
  HttpHeaders headers_;
};

// Throws an ApiError with status 400 for the field `param`.
template <typename... Args>
[[noreturn]] void refuse_field(const std::string& param, fmt::format_string<Args...> text, Args&&... args) {
  throw ApiError(400, "invalid_value", param, fmt::format(text, std::forward<Args>(args)...));
}

Json error_json(ApiFamily family, const ApiError& error, std::string_view request_id);
HttpResponse error_response(ApiFamily family, const ApiError& error, std::string_view request_id);

}  // namespace puna
