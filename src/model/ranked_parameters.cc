// SPDX-License-Identifier: Apache-2.0
#include "model/ranked_parameters.h"

#include <algorithm>
#include <string>

#include "base/as_size.h"
#include "tensor/arena.h"

namespace puna {
namespace {

void append_all(RankedReader& reader, const RankedBytes& bytes, std::byte* to) {
  reader.read(bytes, [&](std::span<const std::byte> piece) { to = std::ranges::copy(piece, to).out; });
}

}  // namespace

std::int64_t RankedParameters::count() const {
  std::int64_t count = 0;
  for (const ParameterEntry& entry : entries()) count += entry.whole.count();
  return count;
}

// bytes_of(parameters) is a rank's part.
template <typename BytesOf>
RankedBytes RankedParameters::parts(std::size_t entry, BytesOf&& bytes_of) const {
  std::vector<RankedBytes::Part> parts;
  for (const Parameters* const rank : ranks_) parts.push_back({bytes_of(*rank), &rank->device()});
  return {std::move(parts), entries()[entry].axis, entries()[entry].whole[0]};
}

RankedBytes RankedParameters::values(std::size_t entry) const {
  return parts(entry, [&](const Parameters& rank) { return std::as_writable_bytes(rank.all()[entry].value); });
}

std::span<const float> RankedParameters::on_host(std::size_t entry, std::vector<float>& memory) const {
  if (lies_on_host()) return ranks_.front()->all()[entry].value;
  memory.resize(as_size(entries()[entry].whole.count()));
  RankedReader reader;
  append_all(reader, values(entry), std::as_writable_bytes(std::span(memory)).data());
  return memory;
}

std::shared_ptr<Checkpoint> RankedParameters::view() const {
  const Parameters& first = *ranks_.front();
  auto view = std::make_shared<Checkpoint>();
  view->config = checkpoint().config;
  view->weights = checkpoint().weights;
  view->weights.layers.resize(as_size(view->config.layers));  // a new network's have none yet
  view->reward_head = checkpoint().reward_head;
  view->where = checkpoint().where;
  view->chat_template = checkpoint().chat_template;
  view->prompt_format = checkpoint().prompt_format;
  view->owners.push_back(first.owner());

  std::vector<RankedBytes> copied;
  if (!lies_on_host()) {
    for (std::size_t i = 0; i < entries().size(); ++i) {
      copied.push_back(parts(i, [&](const Parameters& rank) {
        const std::span<const std::byte> bytes = rank.tensor(i).bytes;  // the parameters' own, which may be written
        return std::span(const_cast<std::byte*>(bytes.data()), bytes.size());
      }));
    }
  }
  std::size_t bytes = 0;
  for (const RankedBytes& each : copied) bytes += Arena::padded(each.size());
  const auto arena = std::make_shared<Arena>(bytes, "a copy of the trained weights");
  RankedReader reader;
  for (std::size_t i = 0; i < entries().size(); ++i) {
    Tensor tensor = first.tensor(i);
    if (!copied.empty()) {
      const std::span<std::byte> copy = arena->take(copied[i].size());
      append_all(reader, copied[i], copy.data());
      tensor.bytes = copy;
      tensor.shape = entries()[i].whole;
    }
    put_trained(entries()[i], tensor, {view->weights, view->adapters, view->reward_head});
  }
  if (view->config.tied_embeddings) view->weights.output = view->weights.token_embedding;
  view->owners.push_back(arena);
  each_weight(view->config, [&](WeightRole role, std::int64_t layer) {
    const Tensor& tensor = view->weights.at(role, layer);
    view->weight_bytes += static_cast<std::int64_t>(tensor.bytes.size() + tensor.row_scales.size());
  });
  return view;
}

}  // namespace puna
