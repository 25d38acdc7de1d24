// SPDX-License-Identifier: Apache-2.0
#include "server/api_error.h"

namespace puna {
namespace {

std::string_view open_ai_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "service_unavailable";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

std::string_view anthropic_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    default:
      return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

// "[response_format: schema#] ..." -> "response_format": where an error names a request's field.
std::string field_of(const Error& error) {
  const std::string_view text = error.what();
  const std::size_t end = text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_", 1);
  if (!text.starts_with('[') || end == std::string_view::npos || (text[end] != ']' && text[end] != ':')) return "";
  return std::string(text.substr(1, end - 1));
}

Json text_or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

}  // namespace

ApiError ApiError::from(const Error& error) {
  switch (error.kind()) {
    case ErrorKind::kInternal:
      return {500, "internal_error", "", "the server met a defect of its own; its log says more"};
    case ErrorKind::kNotFound:
      return {404, "not_found", "", error.what()};
    case ErrorKind::kNoRoom:
      return {400, "context_length_exceeded", "messages", error.what()};
    case ErrorKind::kNetwork:
      return {502, "upstream_error", "", error.what()};
    case ErrorKind::kUnsupported:
      return {400, "unsupported", field_of(error), error.what()};
    case ErrorKind::kUsage:
    case ErrorKind::kBadInput:
      break;
  }
  return {400, "invalid_value", field_of(error), error.what()};
}

Json error_json(ApiFamily family, const ApiError& error, std::string_view request_id) {
  switch (family) {
    case ApiFamily::kOllama:
      return {{"error", error.what()}};
    case ApiFamily::kAnthropic:
      return {{"type", "error"},
              {"error", {{"type", anthropic_type(error.status())}, {"message", error.what()}}},
              {"request_id", request_id}};
    case ApiFamily::kOpenAi:
      break;
  }
  return {{"error",
           {{"message", error.what()},
            {"type", open_ai_type(error.status())},
            {"param", text_or_null(error.param())},
            {"code", text_or_null(error.code())}}}};
}

HttpResponse error_response(ApiFamily family, const ApiError& error, std::string_view request_id) {
  HttpResponse response{
      .status = error.status(), .body = dump_json(error_json(family, error, request_id)), .headers = error.headers()};
  if (error.status() == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

}  // namespace puna
