// SPDX-License-Identifier: Apache-2.0
// Fields that OpenAI's chat and completion requests share, and a few that other servers have added to them: top_k, min_p,
// typical_p, repetition_penalty, grammar, regex, choice, ignore_eos.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "server/answering.h"
#include "server/request_json.h"

namespace puna {

// What steers the writing of an answer, with its ranges.
inline constexpr std::array<FieldRule, 21> kWritingFields = {{
    {"model", FieldKind::kText, 0, 512, false, false},
    {"temperature", FieldKind::kNumber, 0, 2},
    {"top_p", FieldKind::kNumber, 1e-9, 1},
    {"top_k", FieldKind::kInteger, 0, 1'000'000'000},
    {"min_p", FieldKind::kNumber, 0, 1},
    {"typical_p", FieldKind::kNumber, 1e-9, 1},
    {"repetition_penalty", FieldKind::kNumber, 0.01, 10},
    {"presence_penalty", FieldKind::kNumber, -2, 2},
    {"frequency_penalty", FieldKind::kNumber, -2, 2},
    {"logit_bias", FieldKind::kObject},
    {"seed", FieldKind::kInteger, -9.3e18, 9.3e18},
    {"stop", FieldKind::kTextOrList, 1, 1024},
    {"n", FieldKind::kInteger, 1, 16},
    {"stream", FieldKind::kBoolean},
    {"stream_options", FieldKind::kObject},
    {"user", FieldKind::kText, 0, 4096, false, false},
    {"metadata", FieldKind::kObject},
    {"grammar", FieldKind::kText, 1, 1 << 20},
    {"regex", FieldKind::kText, 1, 1 << 16},
    {"choice", FieldKind::kList, 1, 4096},
    {"ignore_eos", FieldKind::kBoolean},
}};

// Of checked fields. Throws ApiError for a stop that is no text, a bias that is no number. A request without a seed has one that
// follows from the server's and from how many such requests were before.
GenerateOptions writing_options(const Json& body, Services& services);
// "grammar", "regex" or "choice"; nullopt where there is none. Throws ApiError where there are several.
std::optional<AnswerShape> written_shape(const Json& body);
// Whether stream_options ask for the usage. Throws ApiError where they stand without "stream".
bool wants_usage(const Json& body);

// Each prompt is counted once, however many answers it has.
Json usage_json(std::span<const Answer> answers);
// What llama.cpp's server calls so: counts, milliseconds and tokens per second of reading and writing.
Json timings_json(const Generation& generation);

}  // namespace puna
