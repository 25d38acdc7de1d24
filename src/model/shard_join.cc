// SPDX-License-Identifier: Apache-2.0
#include "model/shard_join.h"

#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "base/error.h"

namespace puna {
namespace {

// Keeps every `step`-th piece.
void keep_every(JoinPlan& plan, std::size_t step) {
  std::vector<Tensor> kept;
  for (std::size_t rank = 0; rank < plan.pieces.size(); rank += step) {
    kept.push_back(plan.pieces[rank]);
    plan.ranks.push_back(rank);
  }
  plan.pieces = std::move(kept);
}

void check_alike(const std::vector<Tensor>& pieces, const std::string& where) {
  for (const Tensor& piece : pieces) {
    const Tensor& first = pieces.front();
    if (piece.shape != first.shape || piece.format != first.format) {
      fail(ErrorKind::kBadInput, where, "tensor {} is {} {} in one file and {} {} in another", first.name, first.shape.text(),
           info(first.format).name, piece.shape.text(), info(piece.format).name);
    }
  }
}

[[noreturn]] void refuse_shapes(const JoinPlan& plan, const std::string& where) {
  fail(ErrorKind::kBadInput, where, "tensor {} is {} in each of {} files, which does not make up {} from params.json",
       plan.pieces.front().name, plan.pieces.front().shape.text(), plan.pieces.size(), plan.shape.text());
}

// Copies must be copies: where they differ, one of the files belongs to another model.
void check_copies(const JoinPlan& plan, const std::string& where) {
  const Tensor& first = plan.pieces.front();
  for (const Tensor& piece : plan.pieces) {
    if (piece.bytes.size() == first.bytes.size() && std::memcmp(piece.bytes.data(), first.bytes.data(), first.bytes.size()) == 0)
      continue;
    fail(ErrorKind::kBadInput, where, "tensor {} differs between the files: they are not parts of one model", first.name);
  }
}

void join_columns(const JoinPlan& plan, std::span<std::byte> whole) {
  const std::int64_t rows = plan.shape.rows();
  std::size_t row_bytes = 0, offset = 0;
  for (const Tensor& piece : plan.pieces) row_bytes += static_cast<std::size_t>(piece.row_bytes());
  for (const Tensor& piece : plan.pieces) {
    const auto piece_bytes = static_cast<std::size_t>(piece.row_bytes());
    for (std::int64_t n = 0; n < rows; ++n) {
      std::memcpy(whole.data() + static_cast<std::size_t>(n) * row_bytes + offset, piece.row(n), piece_bytes);
    }
    offset += piece_bytes;
  }
}

void decode_columns(const JoinPlan& plan, std::span<std::byte> whole) {
  auto* values = reinterpret_cast<float*>(whole.data());  // [N, K]; the arena aligns it
  std::int64_t offset = 0;
  for (const Tensor& piece : plan.pieces) {
    for (std::int64_t n = 0; n < plan.shape.rows(); ++n) decode_row(piece, n, values + n * plan.shape.row_length() + offset);
    offset += piece.shape.row_length();
  }
}

}  // namespace

JoinPlan plan_join(std::vector<Tensor> pieces, const WeightRoleInfo& role, const Shape& shape, const std::string& where) {
  check_alike(pieces, where);
  JoinPlan plan{.pieces = std::move(pieces), .ranks = {}, .axis = role.shard_axis, .shape = shape};
  const Shape piece = plan.pieces.front().shape;
  const auto count = static_cast<std::int64_t>(plan.pieces.size());
  std::size_t step = 1;
  if (piece == shape) {  // norms, and whatever a writer did not split
    check_copies(plan, where);
    plan.axis = ShardAxis::kNone;
    step = plan.pieces.size();
  } else if (piece.rank() != 2 || shape.rank() != 2) {
    refuse_shapes(plan, where);
  } else if (role.role == WeightRole::kTokenEmbedding && piece[1] != shape[1]) {
    plan.axis = ShardAxis::kColumns;
  }
  if (plan.axis == ShardAxis::kRows) {
    const std::int64_t rows = piece[0] * count;
    const bool grouped = role.role == WeightRole::kKey || role.role == WeightRole::kValue;
    if (grouped && rows > shape[0] && rows % shape[0] == 0) step = static_cast<std::size_t>(rows / shape[0]);
    if (piece[1] != shape[1] || rows != shape[0] * static_cast<std::int64_t>(step)) refuse_shapes(plan, where);
  } else if (plan.axis == ShardAxis::kColumns) {
    if (piece[0] != shape[0] || piece[1] * count != shape[1]) refuse_shapes(plan, where);
  }
  keep_every(plan, step);
  plan.format = plan.pieces.front().format;
  const bool scaled = !plan.pieces.front().row_scales.empty();
  if (scaled && plan.axis == ShardAxis::kColumns) plan.format = Format::kF32;
  if (scaled && plan.axis != ShardAxis::kColumns) plan.scale_bytes = static_cast<std::size_t>(shape.rows()) * sizeof(float);
  plan.bytes = static_cast<std::size_t>(format_bytes(plan.format, shape.count()));
  return plan;
}

Tensor join(const JoinPlan& plan, Arena& arena) {
  const std::span<std::byte> whole = arena.take(plan.bytes), scales = arena.take(plan.scale_bytes);
  if (plan.axis == ShardAxis::kColumns) {
    const bool decode = plan.format != plan.pieces.front().format;
    decode ? decode_columns(plan, whole) : join_columns(plan, whole);
  } else {
    std::size_t offset = 0, scale_offset = 0;
    for (const Tensor& piece : plan.pieces) {
      std::memcpy(whole.data() + offset, piece.bytes.data(), piece.bytes.size());
      offset += piece.bytes.size();
      if (piece.row_scales.empty()) continue;
      std::memcpy(scales.data() + scale_offset, piece.row_scales.data(), piece.row_scales.size());
      scale_offset += piece.row_scales.size();
    }
  }
  return {plan.pieces.front().name, plan.format, plan.shape, whole, scales};
}

}  // namespace puna
