// SPDX-License-Identifier: Apache-2.0
// A network that says its vocabulary in order: after token i comes token i + 1, after the last comes the first. So a test writes
// the text that is generated, cut into tokens as it likes, as the list of pieces.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/random.h"
#include "model/checkpoint.h"

namespace puna {

// Pieces in angle brackets, like "<eos>", are special; <bos> and <eos> have their meaning.
class ScriptedTokenizer : public Tokenizer {
 public:
  explicit ScriptedTokenizer(std::vector<std::string> pieces, bool strips_space = false)
      : pieces_(std::move(pieces)), strips_space_(strips_space) {
    kind_ = "scripted";
    size_ = static_cast<int>(pieces_.size());
    std::vector<std::pair<std::string, Token>> specials;
    for (int i = 0; i < size_; ++i) {
      const std::string& piece = pieces_[static_cast<std::size_t>(i)];
      if (piece.size() > 2 && piece.front() == '<' && piece.back() == '>') specials.emplace_back(piece, Token{i});
    }
    set_names(specials, {});
    for (const auto& [special, token] : specials) {
      if (special == "<bos>") set_bos(token, true);
      if (special == "<eos>") add_end_token(token);
    }
  }

 protected:
  void encode_text(std::string_view, std::vector<Token>&) const override {}  // tests give tokens
  std::string bytes_of(Token token) const override { return pieces_[static_cast<std::size_t>(id(token))]; }
  bool strips_first_space() const override { return strips_space_; }

 private:
  std::vector<std::string> pieces_;
  bool strips_space_;
};

// Blocks of zeros pass the embedding through; row i + 1 of the output matrix is the embedding of token i. `padding`: rows of the
// vocabulary behind those that the tokenizer knows.
inline std::shared_ptr<Checkpoint> scripted_checkpoint(std::unique_ptr<Tokenizer> tokenizer, int padding = 0) {
  auto checkpoint = std::make_shared<Checkpoint>();
  ModelConfig& config = checkpoint->config;
  config.name = checkpoint->where = "scripted";
  config.layers = 1;
  config.width = config.feed_forward = 64;
  config.heads = 2;
  config.kv_heads = 1;
  config.head_width = 32;
  config.vocabulary = tokenizer->size() + padding;
  config.context = 256;
  checkpoint->weights.layers.resize(1);
  const auto vocabulary = static_cast<std::size_t>(config.vocabulary);
  for (const WeightRoleInfo& role : weight_roles()) {
    const Shape shape = weight_shape(config, role.role);
    auto values = std::make_shared<std::vector<float>>(static_cast<std::size_t>(shape.count()), shape.rank() == 1 ? 1.0f : 0.0f);
    const bool embedding = role.role == WeightRole::kTokenEmbedding, output = role.role == WeightRole::kOutput;
    for (std::size_t i = 0; (embedding || output) && i < values->size(); ++i) {
      const std::size_t token = i / 64, row = output ? (token + 1) % vocabulary : token;
      (*values)[row * 64 + i % 64] = static_cast<float>(random_normal(3, 0, i));
    }
    Tensor& tensor = checkpoint->weights.at(role.role, 0);
    tensor = {
        .name = "scripted", .format = Format::kF32, .shape = shape, .bytes = std::as_bytes(std::span(*values)), .row_scales = {}};
    checkpoint->weight_bytes += static_cast<std::int64_t>(tensor.bytes.size());
    checkpoint->owners.push_back(values);
  }
  checkpoint->tokenizer = std::move(tokenizer);
  return checkpoint;
}

inline std::shared_ptr<Checkpoint> scripted_checkpoint(std::vector<std::string> pieces) {
  return scripted_checkpoint(std::make_unique<ScriptedTokenizer>(std::move(pieces)));
}

}  // namespace puna
