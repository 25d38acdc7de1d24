// SPDX-License-Identifier: Apache-2.0
// `puna merge`: adapters folded into the weights they were made for.
#include "train/merge.h"

#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/verb.h"
#include "quant/convert.h"

namespace puna {
namespace {

struct MergeFlags {
  std::string base, adapter, out, type;
  bool force = false, json = false;
  int threads = 0;
};

void merge(const MergeFlags& flags) {
  const std::optional<Format> format = float_format(flags.type);
  const AdapterFile adapter = read_adapter(flags.adapter);
  const std::shared_ptr<const Checkpoint> base = open_model(flags.base);
  ThreadPool pool(flags.threads);
  const std::shared_ptr<const Checkpoint> merged = merge_adapter(base, adapter, format, pool);
  const InterruptScope scope(SecondPress::kEndsProcess);
  const ConvertReport report =
      convert_checkpoint(pool, *merged, flags.out, CheckpointKind::kHuggingFace, flags.force, &interrupt_flag());
  if (flags.json)
    return write_json(
        {{"path", flags.out}, {"bytes_out", report.bytes_out}, {"matrices", adapter.matrices.size()}, {"notes", report.notes}});
  for (const std::string& note : report.notes) write_note("note: " + note);
  write_text(fmt::format("{}: {} matrices merged\n", flags.out, adapter.matrices.size()));
}

}  // namespace

VerbAction declare_merge(Command& command) {
  const auto flags = std::make_shared<MergeFlags>();
  command.positional("BASE", &flags->base, "the model the adapter was trained on").required = true;
  command.positional("ADAPTER", &flags->adapter, "a folder with adapter_model.safetensors: a run's checkpoint, or one from PEFT")
      .required = true;
  command.positional("OUT", &flags->out, "OUT.gguf, or a folder as Hugging Face has them").required = true;
  command.flag("--type", "f32|f16|bf16", &flags->type,
               "of the merged matrices (default: as they were, and bf16 for fewer bits); the others stay as they are");
  command.flag("--force", &flags->force, "overwrite OUT");
  add_threads(command, flags->threads);
  add_json(command, flags->json);
  return [flags] { merge(*flags); };
}

}  // namespace puna
