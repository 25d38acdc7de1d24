// SPDX-License-Identifier: Apache-2.0
// `puna convert`: the same weights in another container.
#include "quant/convert.h"

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/nearest.h"
#include "base/progress.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/verb.h"

namespace puna {
namespace {

struct ConvertFlags {
  std::string in, out, to;
  bool force = false, json = false;
  int threads = 0;
};

CheckpointKind target_kind(const ConvertFlags& flags) {
  const bool gguf = std::filesystem::path(flags.out).extension() == ".gguf";
  if (flags.to == "gguf" && !gguf) fail(ErrorKind::kUsage, flags.out, "a GGUF file is to be written: let the name end in .gguf");
  if (gguf && !flags.to.empty() && flags.to != "gguf") {
    fail(ErrorKind::kUsage, flags.out, "--to {} writes a folder: give a name that does not end in .gguf", flags.to);
  }
  if (gguf) return CheckpointKind::kGguf;
  if (flags.to.empty() || flags.to == "hf") return CheckpointKind::kHuggingFace;
  if (flags.to == "meta") return CheckpointKind::kMeta;
  const std::vector<std::string> names = {"gguf", "hf", "meta"};
  fail(ErrorKind::kUsage, "--to", "'{}' is not a container, expected gguf, hf or meta{}", flags.to, did_you_mean(flags.to, names));
}

void convert(const ConvertFlags& flags) {
  const CheckpointKind kind = target_kind(flags);
  const std::shared_ptr<const Checkpoint> in = open_model(flags.in);
  ThreadPool pool(flags.threads);
  const InterruptScope scope(SecondPress::kEndsProcess);
  const ConvertReport report = convert_checkpoint(pool, *in, flags.out, kind, flags.force, &interrupt_flag());
  if (flags.json) {
    return write_json({{"path", flags.out},
                       {"bytes_out", report.bytes_out},
                       {"seconds", report.seconds},
                       {"lossless", report.lossless},
                       {"notes", report.notes}});
  }
  std::string text =
      fmt::format("{}: {} in {:.1f} s, {}\n", flags.out, human_bytes(static_cast<std::uint64_t>(report.bytes_out)), report.seconds,
                  report.lossless ? "every weight kept as it was" : "not every weight could be kept");
  for (const std::string& note : report.notes) text += "note: " + note + "\n";
  write_text(text);
}

}  // namespace

VerbAction declare_convert(Command& command) {
  const auto flags = std::make_shared<ConvertFlags>();
  command.positional("MODEL", &flags->in, "the model to read").required = true;
  command.positional("OUT", &flags->out, "the file (OUT.gguf) or folder to write").required = true;
  command.flag("--to", "gguf|hf|meta", &flags->to, "the container (default: gguf for OUT.gguf, else hf)");
  command.flag("--force", &flags->force, "overwrite OUT");
  add_threads(command, flags->threads);
  add_json(command, flags->json);
  return [flags] { convert(*flags); };
}

}  // namespace puna
