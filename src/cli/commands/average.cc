// SPDX-License-Identifier: Apache-2.0
// `puna average`: one model out of several of the same shape.
#include <charconv>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/verb.h"
#include "quant/convert.h"
#include "train/merge.h"

namespace puna {
namespace {

struct AverageFlags {
  std::string out, type;
  std::vector<std::string> models;
  bool force = false, json = false;
  int threads = 0;
};

// "path" or "path=0.3"; what lies there under the whole name is meant by it.
AverageShare open_share(const std::string& text) {
  const std::size_t equals = text.rfind('=');
  if (equals == std::string::npos || std::filesystem::exists(text)) return {open_model(text), 1};
  double share = 0;
  const char* const end = text.data() + text.size();
  const auto [last, error] = std::from_chars(text.data() + equals + 1, end, share);
  if (error != std::errc() || last != end || !std::isfinite(share))
    fail(ErrorKind::kUsage, text, "'{}' is no share: write MODEL or MODEL=0.3", text.substr(equals + 1));
  return {open_model(text.substr(0, equals)), share};
}

void average(const AverageFlags& flags) {
  if (flags.models.size() < 2) fail(ErrorKind::kUsage, "average", "{} model, expected two or more", flags.models.size());
  const std::optional<Format> format = float_format(flags.type);
  std::vector<AverageShare> shares;
  for (const std::string& model : flags.models) shares.push_back(open_share(model));
  ThreadPool pool(flags.threads);
  const std::shared_ptr<const Checkpoint> averaged = average_checkpoints(shares, format, pool);
  const InterruptScope scope(SecondPress::kEndsProcess);
  const ConvertReport report =
      convert_checkpoint(pool, *averaged, flags.out, CheckpointKind::kHuggingFace, flags.force, &interrupt_flag());
  if (flags.json)
    return write_json({{"path", flags.out}, {"bytes_out", report.bytes_out}, {"models", shares.size()}, {"notes", report.notes}});
  for (const std::string& note : report.notes) write_note("note: " + note);
  write_text(fmt::format("{}: the average of {} models\n", flags.out, shares.size()));
}

}  // namespace

VerbAction declare_average(Command& command) {
  const auto flags = std::make_shared<AverageFlags>();
  command.positional("OUT", &flags->out, "OUT.gguf, or a folder as Hugging Face has them").required = true;
  command.positional("MODEL", &flags->models, "two or more models; MODEL=0.3 gives one a share").required = true;
  command.flag("--type", "f32|f16|bf16", &flags->type,
               "of the averaged weights (default: as the first model has them, and bf16 for fewer bits)");
  command.flag("--force", &flags->force, "overwrite OUT");
  add_threads(command, flags->threads);
  add_json(command, flags->json);
  return [flags] { average(*flags); };
}

}  // namespace puna
