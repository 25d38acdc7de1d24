// SPDX-License-Identifier: Apache-2.0
// Candidates stay in the order of their ids and every filter only erases, so a draw does not depend on how a sort breaks ties.
// Nothing sorts the vocabulary: a filter selects its last member, and only the likely part of the vocabulary is looked at. A draw
// from a shortlist is the same code; where what it has not seen could matter, it gives up.
#include "infer/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/random.h"
#include "kernels/softmax.h"

namespace puna {
namespace {

constexpr std::uint64_t kDrawStream = 0x73616d706c65;  // keeps these random numbers apart from other uses of the same seed
constexpr float kFirstBand = 8;                        // in scaled logits below the largest: e^-8 of its probability
constexpr float kAll = -std::numeric_limits<float>::infinity();
constexpr double kMassError = 1e-6;  // relative, more than log_sum_exp() errs
constexpr double kVanished = 1e-37;  // more than an exponential that F32 has no number for

void check_range(const char* option, double value, double low, double high) {
  if (!(value >= low && value <= high)) {
    fail(ErrorKind::kUsage, option, "{} is outside the range: give a number from {} to {}", value, low, high);
  }
}

struct Largest {
  std::size_t place = 0;
  float logit = kAll;  // stays where there is nothing larger
};
Largest largest_of(std::span<const float> logits) {
  Largest best;
  for (std::size_t v = 0; v < logits.size(); ++v) {
    if (logits[v] > best.logit) best = {v, logits[v]};
  }
  return best;
}

// Whole words of tokens at a time, since most masks allow nearly all or nearly none.
void forbid(std::span<const std::uint32_t> mask, std::span<float> logits) {
  for (std::size_t v = 0; v < logits.size(); v += 32) {
    const std::uint32_t word = mask[v / 32];
    const std::span<float> some = logits.subspan(v, std::min<std::size_t>(32, logits.size() - v));
    if (word == ~std::uint32_t{0}) continue;
    for (std::size_t bit = 0; bit < some.size(); ++bit) {
      if ((word >> bit & 1u) == 0) some[bit] = kAll;
    }
  }
}
void forbid(std::span<const std::uint32_t> mask, std::span<const std::int32_t> tokens, std::span<float> logits) {
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const auto v = static_cast<std::size_t>(tokens[i]);
    if ((mask[v / 32] >> v % 32 & 1u) == 0) logits[i] = kAll;
  }
}

}  // namespace

void check_sampler_options(const SamplerOptions& options) {
  check_range("temperature", options.temperature, 0, 100);
  check_range("top_k", options.top_k, 0, std::numeric_limits<int>::max());
  check_range("top_p", options.top_p, 0, 1);
  check_range("min_p", options.min_p, 0, 1);
  check_range("typical_p", options.typical_p, 0, 1);
  check_range("repetition_penalty", options.repetition_penalty, 0.01, 100);
  check_range("presence_penalty", options.presence_penalty, -2, 2);
  check_range("frequency_penalty", options.frequency_penalty, -2, 2);
  check_range("penalty_window", options.penalty_window, -1, std::numeric_limits<int>::max());
  for (const auto& [token, bias] : options.logit_bias) {
    check_range("logit_bias", bias, -100, 100);
    if (id(token) < 0) fail(ErrorKind::kUsage, "logit_bias", "token {} is not a token: ids start at 0", id(token));
  }
}

void add_logprobs(std::span<const float> logits, int top, SampledToken& sampled) {
  const double log_sum = log_sum_exp(logits);
  sampled.logprob = static_cast<double>(logits[static_cast<std::size_t>(id(sampled.token))]) - log_sum;
  const auto larger = [&](std::int32_t a, std::int32_t b) {
    const float la = logits[static_cast<std::size_t>(a)], lb = logits[static_cast<std::size_t>(b)];
    return la > lb || (la == lb && a < b);
  };
  std::vector<std::int32_t> best;  // a heap, the least of them first
  for (std::int32_t token = 0; top > 0 && token < static_cast<std::int32_t>(logits.size()); ++token) {
    if (best.size() == static_cast<std::size_t>(top)) {
      if (!larger(token, best.front())) continue;
      std::ranges::pop_heap(best, larger);
      best.pop_back();
    }
    best.push_back(token);
    std::ranges::push_heap(best, larger);
  }
  std::ranges::sort_heap(best, larger);
  for (const std::int32_t token : best) {
    sampled.top.emplace_back(Token{token}, static_cast<double>(logits[static_cast<std::size_t>(token)]) - log_sum);
  }
}

Sampler::Sampler(SamplerOptions options) : options_(std::move(options)) {
  check_sampler_options(options_);
  repetition_ = options_.repetition_penalty != 1 && options_.penalty_window != 0;
  penalties_ = repetition_ || options_.presence_penalty != 0 || options_.frequency_penalty != 0;
  raises_ = options_.repetition_penalty < 1 || options_.presence_penalty < 0 || options_.frequency_penalty < 0;
  only_temperature_ = options_.temperature > 0 && !penalties_ && options_.logit_bias.empty() && options_.top_k == 0 &&
                      options_.typical_p == 1 && options_.top_p == 1 && options_.min_p == 0;
  inverse_temperature_ = static_cast<float>(std::min(1 / options_.temperature, 1e30));  // 0 times infinity would be NaN
}

void Sampler::accept_prompt(std::span<const Token> tokens) {
  if (!penalties_) return;
  history_.insert(history_.begin() + static_cast<std::ptrdiff_t>(prompt_length_), tokens.begin(), tokens.end());
  prompt_length_ += tokens.size();
}

SampledToken Sampler::sample(std::span<const float> logits, int top_logprobs, std::span<const std::uint32_t> mask) {
  tokens_ = {};
  others_ = {.width = static_cast<std::int64_t>(logits.size())};
  const std::span<const float> adjusted = adjust(logits, mask);
  const std::optional<Token> token = choose(adjusted);
  PUNA_CHECK(token, "sampler", "{} logits do not decide", logits.size());
  SampledToken sampled;
  sampled.token = *token;
  if (top_logprobs >= 0) add_logprobs(logits, top_logprobs, sampled);
  advance(*token);
  return sampled;
}

std::optional<SampledToken> Sampler::sample(const Shortlist& list, std::span<const std::uint32_t> mask) {
  std::optional<Token> token;
  if (only_temperature_ && mask.empty() && list.margin > kDrawError) {
    token = Token{list.drawn};
  } else if (list.count > 0) {
    tokens_ = list.tokens();
    others_ = {.border = list.border(),
               .peak = largest_of(list.values()).logit,
               .rest = list.rest,
               .width = list.width,
               .masked = !mask.empty()};
    const std::span<const float> adjusted = adjust(list.values(), mask);
    if (!others_.raised) token = choose(adjusted);
  }
  if (!token) return std::nullopt;
  advance(*token);
  return SampledToken{.token = *token, .top = {}};
}

RowDraw Sampler::next_draw(std::uint64_t steps) const {
  RowDraw draw{.inverse_temperature = inverse_temperature_};
  if (only_temperature_) draw.uniform = random_uniform(options_.seed, kDrawStream, step_ + steps);
  return draw;
}

void Sampler::advance(Token token) {
  if (penalties_) history_.push_back(token);
  ++step_;
}

std::span<const float> Sampler::adjust(std::span<const float> logits, std::span<const std::uint32_t> mask) {
  if (!penalties_ && options_.logit_bias.empty() && mask.empty()) return logits;
  adjusted_.assign(logits.begin(), logits.end());
  if (!mask.empty()) {
    PUNA_CHECK(static_cast<std::int64_t>(32 * mask.size()) >= others_.width, "sampler", "a mask of {} words for {} logits",
               mask.size(), others_.width);
    tokens_.empty() ? forbid(mask, adjusted_) : forbid(mask, tokens_, adjusted_);
  }
  apply_biases();
  if (penalties_) apply_penalties();
  return adjusted_;
}

void Sampler::apply_biases() {
  for (const auto& [token, bias] : options_.logit_bias) {
    if (id(token) >= others_.width) {
      fail(ErrorKind::kUsage, "logit_bias", "token {} is outside the vocabulary: ids are below {}", id(token), others_.width);
    }
    if (const std::size_t place = place_of(token); place < adjusted_.size()) {
      adjusted_[place] += static_cast<float>(bias);
    } else {
      ++others_.adjusted;
      others_.raised |= bias > 0;
    }
  }
}

// Among the logits that are adjusted, or their number where it is not there.
std::size_t Sampler::place_of(Token token) const {
  if (tokens_.empty()) return std::min(static_cast<std::size_t>(id(token)), adjusted_.size());
  const auto place = std::ranges::lower_bound(tokens_, id(token));
  return place != tokens_.end() && *place == id(token) ? static_cast<std::size_t>(place - tokens_.begin()) : adjusted_.size();
}

void Sampler::apply_penalties() {
  counts_.resize(adjusted_.size());
  // Each token once, with how often it is there; but those that have no place: a prompt may have rows beyond the tokenizer's last.
  const auto visit = [&](std::span<const Token> tokens, auto&& penalize) {
    for (const Token token : tokens) {
      if (const std::size_t place = place_of(token); place < counts_.size()) {
        ++counts_[place];
      } else {
        ++others_.adjusted;
        others_.raised |= raises_;
      }
    }
    for (const Token token : tokens) {
      const std::size_t place = place_of(token);
      if (place == counts_.size()) continue;
      if (counts_[place] > 0) penalize(adjusted_[place], counts_[place]);
      counts_[place] = 0;
    }
  };
  const std::span<const Token> history = history_;
  const bool all = options_.penalty_window < 0;
  if (repetition_) {
    const std::size_t window = all ? history.size() : std::min(history.size(), static_cast<std::size_t>(options_.penalty_window));
    const auto factor = static_cast<float>(options_.repetition_penalty);
    visit(history.last(window), [&](float& logit, std::int32_t) { logit = logit > 0 ? logit / factor : logit * factor; });
  }
  visit(history.subspan(prompt_length_), [&](float& logit, std::int32_t count) {
    logit -= static_cast<float>(options_.presence_penalty + options_.frequency_penalty * count);
  });
}

// Nothing where a shortlist does not decide.
std::optional<Token> Sampler::choose(std::span<const float> logits) {
  const auto [place, largest] = largest_of(logits);
  if (!std::isfinite(largest) && tokens_.empty()) {
    fail(ErrorKind::kBadInput, "sampler", "the largest of {} logits is {}, expected a finite number: the weights are damaged",
         logits.size(), largest);
  }
  if (!std::isfinite(largest) || !(largest > others_.border)) return std::nullopt;
  return options_.temperature == 0 ? token_at(place) : draw(logits, largest);
}

std::optional<Token> Sampler::draw(std::span<const float> logits, float largest) {
  if (!gather_candidates(logits, largest)) return std::nullopt;
  if (options_.top_k > 0) keep_top_k();
  if (options_.typical_p < 1) keep_typical();
  if (options_.top_p < 1 && !keep_top_p()) return std::nullopt;
  if (options_.min_p > 0) keep_min_p();
  const double target = random_uniform(options_.seed, kDrawStream, step_) * candidate_mass();
  double sum = 0;
  for (const Candidate& candidate : candidates_) {
    sum += candidate.p;
    if (target < sum) return candidate.token;
  }
  return candidates_.back().token;  // the product rounded up to the whole mass
}

// Takes as much of the likely end of the vocabulary as the first filter can need; false where a shortlist does not have it.
bool Sampler::gather_candidates(std::span<const float> logits, float largest) {
  const auto scale = [&](float logit) { return (logit - largest) * inverse_temperature_; };
  scaled_.resize(logits.size());
  for (std::size_t v = 0; v < logits.size(); ++v) {
    const float scaled = scale(logits[v]);
    scaled_[v] = scaled <= 0 ? scaled : kAll;  // NaN
  }
  const bool has_all = others_.border == kAll;
  const float lowest = has_all ? kAll : std::nextafter(scale(others_.border), 1.0f);  // others may come before what is below

  const bool by_count = options_.top_k > 0;
  const bool by_mass = !by_count && options_.typical_p == 1 && options_.top_p < 1;
  const bool by_floor = !by_count && options_.typical_p == 1 && options_.top_p == 1 && options_.min_p > 0;
  if (by_floor) {
    const float floor = static_cast<float>(std::log(options_.min_p)) - 0.01f;  // a little more: keep_min_p() is exact
    if (floor >= lowest) gather_from(floor);
    return floor >= lowest;
  }
  if (by_mass) find_mass(largest);
  const auto is_enough = [&] {
    return by_count ? candidates_.size() >= static_cast<std::size_t>(options_.top_k) : candidate_mass() >= options_.top_p * mass_;
  };
  for (float band = kFirstBand; (by_count || by_mass) && -band > lowest; band *= 2) {
    gather_from(-band);
    if (is_enough()) return true;
    if (band > 64) break;  // beyond e^-128 there is nothing a draw of 53 bits could reach
  }
  gather_from(lowest);
  if (!by_mass) mass_ = least_mass_ = candidate_mass();
  return has_all || ((by_count || by_mass) && !candidates_.empty() && is_enough());
}

// The sum of exp(scaled) over all logits. Those outside a shortlist were summed beside the largest one before adjustments; adjusted
// ones may have lost all they had, which was the border's at most.
void Sampler::find_mass(float largest) {
  if (tokens_.empty()) {
    mass_ = least_mass_ = std::exp(log_sum_exp(scaled_));
    return;
  }
  double listed = 0;
  for (const float scaled : scaled_) listed += std::exp(static_cast<double>(scaled));
  const auto beside_largest = [&](float logit) {
    return std::exp((static_cast<double>(logit) - static_cast<double>(largest)) * static_cast<double>(inverse_temperature_));
  };
  const double shift = beside_largest(others_.peak);
  const double most = shift * (others_.rest * (1 + kRestError) + static_cast<double>(others_.width) * kVanished);
  const double lost = others_.adjusted > 0 ? others_.adjusted * beside_largest(others_.border) : 0;
  const double least = others_.masked ? 0 : std::max(0.0, shift * others_.rest * (1 - kRestError) - lost);
  mass_ = (listed + most) * (1 + kMassError);
  least_mass_ = (listed + least) * (1 - kMassError);
}

void Sampler::gather_from(float floor) {
  candidates_.clear();
  for (std::size_t v = 0; v < scaled_.size(); ++v) {
    if (!(scaled_[v] >= floor)) continue;
    const double p = std::exp(static_cast<double>(scaled_[v]));
    if (p > 0) candidates_.push_back({p, scaled_[v], token_at(v)});
  }
}

bool Sampler::likelier(const Candidate& a, const Candidate& b) {
  return a.scaled > b.scaled || (a.scaled == b.scaled && a.token < b.token);
}

double Sampler::candidate_mass() const {
  double sum = 0;
  for (const Candidate& candidate : candidates_) sum += candidate.p;
  return sum;
}

// The last member of the shortest beginning, in the order of `before`, whose mass reaches `mass`. Expected time linear.
template <typename Before>
Sampler::Candidate Sampler::prefix_end(double mass, Before before) {
  order_ = candidates_;
  auto begin = order_.begin(), end = order_.end();
  while (end - begin > 1) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, before);
    double left = 0;
    for (auto candidate = begin; candidate != middle; ++candidate) left += candidate->p;
    if (left >= mass) {
      end = middle;
    } else {
      mass -= left, begin = middle;
    }
  }
  return *begin;
}

void Sampler::keep_top_k() {
  const auto k = static_cast<std::size_t>(options_.top_k);
  if (candidates_.size() > k) {
    order_ = candidates_;
    const auto last = order_.begin() + static_cast<std::ptrdiff_t>(k) - 1;
    std::nth_element(order_.begin(), last, order_.end(), likelier);
    std::erase_if(candidates_, [end = *last](const Candidate& candidate) { return likelier(end, candidate); });
  }
  mass_ = least_mass_ = candidate_mass();
}

void Sampler::keep_typical() {
  const double log_mass = std::log(mass_);
  double entropy = 0;
  for (const Candidate& candidate : candidates_)
    entropy += candidate.p / mass_ * (log_mass - static_cast<double>(candidate.scaled));
  const auto surprise = [&](const Candidate& candidate) {
    return std::fabs(log_mass - static_cast<double>(candidate.scaled) - entropy);
  };
  const auto before = [&](const Candidate& a, const Candidate& b) {
    const double sa = surprise(a), sb = surprise(b);
    return sa < sb || (sa == sb && a.token < b.token);
  };
  const Candidate end = prefix_end(options_.typical_p * mass_, before);
  std::erase_if(candidates_, [&](const Candidate& candidate) { return before(end, candidate); });
  mass_ = least_mass_ = candidate_mass();
}

// False where the last one depends on how much exactly a shortlist's others have.
bool Sampler::keep_top_p() {
  const Candidate end = prefix_end(options_.top_p * mass_, likelier);
  if (least_mass_ != mass_ && prefix_end(options_.top_p * least_mass_, likelier).token != end.token) return false;
  std::erase_if(candidates_, [&](const Candidate& candidate) { return likelier(end, candidate); });
  return true;
}

void Sampler::keep_min_p() {
  const Candidate& top = *std::ranges::max_element(candidates_, {}, &Candidate::p);
  std::erase_if(candidates_, [floor = top.p * options_.min_p](const Candidate& candidate) { return candidate.p < floor; });
}

}  // namespace puna
