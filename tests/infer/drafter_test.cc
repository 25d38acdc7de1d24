// SPDX-License-Identifier: Apache-2.0
// Speculative decoding: what is proposed, and that the answer is the one without proposals, bit for bit, however right or wrong
// they are. The oracle is Session::generate() without a drafter.
#include "infer/drafter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "expect_error.h"
#include "grammar/regex.h"
#include "infer/generate.h"
#include "infer/scheduler.h"
#include "infer/scripted_model.h"
#include "model/tiny_checkpoint.h"

namespace puna {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<Token> tokens_of(const std::vector<int>& ids) {
  std::vector<Token> tokens;
  for (const int id : ids) tokens.push_back(Token{id});
  return tokens;
}

std::vector<int> proposed(Drafter& drafter, const std::vector<int>& text, std::int64_t most) {
  std::vector<int> ids;
  for (const Token token : drafter.propose(tokens_of(text), most, Sampler({}))) ids.push_back(id(token));
  return ids;
}

// Knows the answer, and is wrong where it is told to be: one proposal in `every`.
class KnowingDrafter : public Drafter {
 public:
  KnowingDrafter(std::size_t prompt, std::vector<Token> answer, std::uint64_t every)
      : prompt_(prompt), answer_(std::move(answer)), every_(every) {}
  std::span<const Token> propose(std::span<const Token> text, std::int64_t most, const Sampler&) override {
    ++calls;
    proposals_.clear();
    const std::size_t written = text.size() - prompt_;
    for (std::size_t i = 0; i < static_cast<std::size_t>(most) && written + i < answer_.size(); ++i) {
      Token token = answer_[written + i];
      if (every_ > 0 && random_bits(77, every_, counter_++) % every_ == 0) token = Token{(id(token) + 1) % 5};
      proposals_.push_back(token);
    }
    return proposals_;
  }
  int calls = 0;

 private:
  std::size_t prompt_;
  std::vector<Token> answer_, proposals_;
  std::uint64_t every_, counter_ = 0;
};

void expect_same(const Generation& got, const Generation& want) {
  EXPECT_EQ(got.tokens, want.tokens);
  EXPECT_EQ(got.text, want.text);
  EXPECT_EQ(got.reason, want.reason);
  EXPECT_EQ(got.last, want.last);
  ASSERT_EQ(got.logprobs.size(), want.logprobs.size());
  for (std::size_t i = 0; i < want.logprobs.size(); ++i) {
    EXPECT_EQ(got.logprobs[i].logprob, want.logprobs[i].logprob) << i;
    EXPECT_EQ(got.logprobs[i].top, want.logprobs[i].top) << i;
  }
}

std::shared_ptr<const Checkpoint> drafting_model(Format format, std::uint64_t seed = 1) {
  static std::map<std::pair<Format, std::uint64_t>, std::shared_ptr<const Checkpoint>> made;
  auto& checkpoint = made[{format, seed}];
  if (!checkpoint) checkpoint = tiny_checkpoint(tiny_config(), format, seed);
  return checkpoint;
}

EngineOptions room(Format kv = Format::kF16, std::int64_t context = 512, int sequences = 1) {
  return {.threads = 2, .kv_format = kv, .context = context, .sequences = sequences, .chunk_rows = 64, .logit_rows = 7};
}

GenerateOptions asked(std::int64_t most, double temperature, std::uint64_t seed = 1) {
  GenerateOptions options;
  options.sampler.temperature = temperature;
  options.sampler.seed = seed;
  options.max_tokens = most;
  options.top_logprobs = 2;
  return options;
}

TEST(LookupDrafter, ProposesWhatFollowedTheLongestAndLatestMatch) {
  const auto drafter = lookup_drafter();
  EXPECT_THAT(proposed(*drafter, {1, 2, 3, 4, 5, 9, 1, 2}, 3), ElementsAre(3, 4, 5));
  EXPECT_THAT(proposed(*drafter, {1, 2, 7, 9, 1, 2, 8, 9, 1, 2}, 2), ElementsAre(8, 9)) << "the latest";
  EXPECT_THAT(proposed(*drafter, {0, 1, 2, 7, 9, 5, 1, 2, 8, 9, 0, 1, 2}, 2), ElementsAre(7, 9)) << "the longest";
  EXPECT_THAT(proposed(*drafter, {1, 2, 3, 9, 2, 3}, 4), ElementsAre(9, 2, 3)) << "no further than the text";
  EXPECT_THAT(proposed(*drafter, {5, 5, 5}, 4), ElementsAre(5));
  EXPECT_THAT(proposed(*drafter, {1, 2, 3, 4, 2}, 4), IsEmpty()) << "one token is too little";
  EXPECT_THAT(proposed(*drafter, {1, 2, 3, 4}, 4), IsEmpty());
  EXPECT_THAT(proposed(*drafter, {1}, 4), IsEmpty());
}

struct Case {
  Format weights, kv;
  double temperature;
  bool penalties;
};

class Speculation : public testing::TestWithParam<Case> {};

// 120 tokens behind a prompt of 50 cross the ends of two pages.
TEST_P(Speculation, TheAnswerIsTheOneWithoutProposals) {
  const Case& c = GetParam();
  const std::vector<Token> prompt = random_tokens(50, 96);
  GenerateOptions options = asked(120, c.temperature);
  if (c.penalties) options.sampler.repetition_penalty = 1.3, options.sampler.frequency_penalty = 0.4;
  Engine engine(drafting_model(c.weights), room(c.kv));
  const Generation want = Session(engine).generate(prompt, options);
  EXPECT_EQ(want.drafted, 0);
  for (const std::uint64_t every : {0, 1, 2, 5}) {
    for (const std::int64_t draft_tokens : {1, 4, 6}) {
      SCOPED_TRACE(testing::Message() << "wrong one in " << every << ", " << draft_tokens << " at once");
      const auto drafter = std::make_shared<KnowingDrafter>(prompt.size(), want.tokens, every);
      options.drafter = drafter;
      options.draft_tokens = draft_tokens;
      Session session(engine);
      const Generation got = session.generate(prompt, options);
      expect_same(got, want);
      EXPECT_LE(got.accepted, got.drafted);
      if (every == 0) {
        EXPECT_EQ(got.accepted, got.drafted);
        EXPECT_EQ(got.accepted + drafter->calls + (119 % (draft_tokens + 1) == 1 ? 2 : 1), 120) << "passes that were saved";
      }
      if (every == 1) {
        EXPECT_LT(got.accepted, 20);
      }
      // The cache holds the answer but for its last token, and nothing of what was refused.
      EXPECT_EQ(engine.cache().free_pages(), engine.cache().capacity() / kPagePositions - 3);
      EXPECT_EQ(session.tokens().size(), 50u + 119u);
      std::vector<Token> next(prompt);
      next.insert(next.end(), want.tokens.begin(), want.tokens.end());
      options.drafter = nullptr;
      EXPECT_EQ(session.generate(next, options).cached_tokens, 50 + 119);
    }
  }
}
INSTANTIATE_TEST_SUITE_P(All, Speculation,
                         testing::Values(Case{Format::kF32, Format::kF32, 0, false}, Case{Format::kQ8_0, Format::kF16, 0, false},
                                         Case{Format::kQ8_0, Format::kQ8_0, 1, false}, Case{Format::kF32, Format::kF16, 1, true}));

TEST(Speculation, AnswersEndWhereTheyDoWithout) {
  Engine engine(drafting_model(Format::kF32), room(Format::kF32, 128));
  const std::vector<Token> prompt = random_tokens(100, 96);
  for (const std::int64_t most : {1, 2, 3, 10, -1}) {
    GenerateOptions options = asked(most, 0);
    const Generation want = Session(engine).generate(prompt, options);
    for (const std::size_t stop : {0, 7}) {
      options.stop_tokens = stop < want.tokens.size() && stop > 0 ? std::vector<Token>{want.tokens[stop]} : std::vector<Token>{};
      const Generation stopped = Session(engine).generate(prompt, [&] {
        GenerateOptions plain = options;
        plain.drafter = nullptr;
        return plain;
      }());
      options.drafter = std::make_shared<KnowingDrafter>(prompt.size(), want.tokens, 0);
      options.draft_tokens = 6;
      expect_same(Session(engine).generate(prompt, options), stopped);
    }
  }
}

TEST(Speculation, GrammarsStopStringsAndTextAreKept) {
  const std::vector<std::string> pieces{"<bos>", "Once", " up", "on", " a",    " ti", "me",
                                        ",",     " the", "re",  ".",  "<eos>", " No", " more"};
  Engine engine(scripted_checkpoint(pieces), {.threads = 1, .context = 128, .logit_rows = 7});
  const Tokenizer& tokenizer = *engine.checkpoint().tokenizer;
  for (const bool grammar : {false, true}) {
    for (const std::string& stop : {std::string(), std::string("me, t")}) {
      GenerateOptions options = asked(-1, 0);
      if (!stop.empty()) options.stop = {stop};
      if (grammar)
        options.constraint =
            std::make_shared<Constraint>(std::make_shared<const Grammar>(regex_grammar("Once upon( more)? No more\\.", "p")),
                                         std::make_shared<const VocabularyIndex>(tokenizer));
      std::vector<std::string> texts;
      const auto hear = [&](std::string_view text) { texts.emplace_back(text); };
      const Generation want = Session(engine).generate(tokens_of({0}), options, hear);
      const std::vector<std::string> want_texts = std::exchange(texts, {});
      for (const std::uint64_t every : {0, 2, 3}) {
        options.drafter = std::make_shared<KnowingDrafter>(1, want.tokens, every);
        expect_same(Session(engine).generate(tokens_of({0}), options, hear), want);
        EXPECT_EQ(std::exchange(texts, {}), want_texts);
      }
    }
  }
}

// The draft draws with the random numbers that decide, so a draft that is the model itself is right at any temperature.
TEST(ModelDrafter, TheModelItselfIsAlwaysRight) {
  for (const double temperature : {0.0, 1.0}) {
    Engine engine(drafting_model(Format::kF32), room(Format::kF32));
    const auto draft = std::make_shared<Engine>(drafting_model(Format::kF32), room(Format::kF32));
    const std::vector<Token> prompt = random_tokens(40, 96);
    GenerateOptions options = asked(100, temperature, 9);
    const Generation want = Session(engine).generate(prompt, options);
    options.drafter = model_drafter(draft);
    const Generation got = Session(engine).generate(prompt, options);
    expect_same(got, want);
    EXPECT_GT(got.drafted, 70);
    EXPECT_EQ(got.accepted, got.drafted);
  }
}

TEST(ModelDrafter, AnotherModelChangesNothingButTheWork) {
  Engine engine(drafting_model(Format::kQ8_0), room());
  const auto draft = std::make_shared<Engine>(drafting_model(Format::kF32, 5), room());
  const auto drafter = model_drafter(draft);
  Session session(engine);
  std::vector<Token> prompt = random_tokens(40, 96);
  for (const double temperature : {0.0, 0.7}) {
    GenerateOptions options = asked(60, temperature);
    Engine plain(drafting_model(Format::kQ8_0), room());
    const Generation want = Session(plain).generate(prompt, options);
    options.drafter = drafter;
    const Generation got = session.generate(prompt, options);
    EXPECT_EQ(got.tokens, want.tokens);
    EXPECT_GT(got.drafted, 100);
    EXPECT_LT(got.accepted, got.drafted / 2);
  }
  drafter->end();
  EXPECT_EQ(draft->cache().free_pages(), draft->cache().capacity() / kPagePositions);
}

TEST(ModelDrafter, ProposesNothingWhereItsContextIsFull) {
  Engine engine(drafting_model(Format::kF32), room());
  const auto draft = std::make_shared<Engine>(drafting_model(Format::kF32), room(Format::kF16, 64));
  GenerateOptions options = asked(60, 0);
  const std::vector<Token> prompt = random_tokens(40, 96);
  const Generation want = Session(engine).generate(prompt, options);
  options.drafter = model_drafter(draft);
  const Generation got = Session(engine).generate(prompt, options);
  expect_same(got, want);
  EXPECT_GT(got.drafted, 10);
  EXPECT_LT(got.drafted, 24);
  const auto other = model_drafter(draft);  // while the first one holds the draft's only page
  EXPECT_THAT(other->propose(prompt, 2, Sampler({})), IsEmpty());
}

TEST(ModelDrafter, NeedsTheSameVocabulary) {
  const auto checkpoint = [](std::vector<std::string> pieces) { return scripted_checkpoint(std::move(pieces)); };
  const auto target = checkpoint({"a", "b", "c"});
  EXPECT_NO_THROW(check_draft(*target, *checkpoint({"a", "b", "c"})));
  expect_error(ErrorKind::kUsage, "token 1 stands for other bytes in scripted than in scripted", [&] {
    check_draft(*target, *checkpoint({"a", "x", "c"}));
  });
  expect_error(ErrorKind::kUsage, "has 2 tokens and scripted has 3", [&] { check_draft(*target, *checkpoint({"a", "b"})); });
  ModelConfig wide = tiny_config();
  wide.vocabulary = 100;
  expect_error(ErrorKind::kUsage, "has 100 tokens and tiny has 96: give a draft model with the same vocabulary",
               [&] { check_draft(*drafting_model(Format::kF32), *tiny_checkpoint(wide, Format::kF32)); });
  Engine engine(target, {.threads = 1, .context = 64, .logit_rows = 7});
  GenerateOptions options = asked(1, 0);
  options.drafter = lookup_drafter();
  options.draft_tokens = 7;
  expect_error(ErrorKind::kUsage, "7 is outside the range: give 1 to 6",
               [&] { Session(engine).generate(tokens_of({0}), options); });
}

// One to nine answers at once, with drafters of all kinds and without.
class SpeculationInCompany : public testing::TestWithParam<std::size_t> {};

TEST_P(SpeculationInCompany, AnswersAreThoseAloneAndWithout) {
  EngineOptions options = room(Format::kF16, 512, 9);
  options.logit_rows = 9;
  Engine engine(drafting_model(Format::kQ8_0), options);
  const auto draft = std::make_shared<Engine>(drafting_model(Format::kF32, 5), room(Format::kF16, 512, 2));
  Scheduler scheduler(engine, {.most_running = 9, .rows_beside = 32});
  std::map<std::size_t, Generation> want, got;
  for (std::size_t i = 0; i < GetParam(); ++i) {
    const std::vector<Token> prompt = random_tokens(10 + 23 * static_cast<std::int64_t>(i), 96, i);
    GenerateOptions generate = asked(60 + static_cast<std::int64_t>(i), i % 2 == 0 ? 0 : 1, i);
    Engine alone(drafting_model(Format::kQ8_0), room());
    want[i] = Session(alone).generate(prompt, generate);
    if (i % 4 == 0) generate.drafter = std::make_shared<KnowingDrafter>(prompt.size(), want[i].tokens, 4);
    if (i % 4 == 1) generate.drafter = model_drafter(draft);
    if (i % 4 == 2) generate.drafter = lookup_drafter();
    scheduler.add(prompt, generate,
                  {.text = {}, .done = [&, i](const Generation& generation) { got[i] = generation; }, .failed = {}});
  }
  int steps = 0;
  while (scheduler.step()) ASSERT_LT(++steps, 2000);
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [i, generation] : want) {
    SCOPED_TRACE(i);
    expect_same(got.at(i), generation);
  }
  EXPECT_GT(got.at(0).accepted, GetParam() <= 3 ? 10 : 0) << "seven rows hold few proposals beside six answers";
  if (GetParam() == 1) {
    EXPECT_LT(steps, 40) << "of 60 tokens";
  }
  EXPECT_GT(scheduler.counters().drafted_tokens, scheduler.counters().accepted_tokens);
  EXPECT_EQ(scheduler.pages() - scheduler.free_pages(), scheduler.prefixes().size());
  EXPECT_EQ(draft->cache().free_pages(), draft->cache().capacity() / kPagePositions);
}
INSTANTIATE_TEST_SUITE_P(Counts, SpeculationInCompany, testing::Values(1, 3, 6, 9));

TEST(SpeculationInCompany, NobodyLosesPagesForProposals) {
  EngineOptions options = room(Format::kF32, 192, 1);  // three pages
  Engine engine(drafting_model(Format::kF32), options);
  Scheduler scheduler(engine, {.most_running = 3, .rows_beside = 32});
  std::map<std::size_t, Generation> want, got;
  for (std::size_t i = 0; i < 2; ++i) {
    const std::vector<Token> prompt = random_tokens(30, 96, i);
    GenerateOptions generate = asked(40, 0);
    Engine alone(drafting_model(Format::kF32), room(Format::kF32));
    want[i] = Session(alone).generate(prompt, generate);
    generate.drafter = std::make_shared<KnowingDrafter>(prompt.size(), want[i].tokens, 3);
    scheduler.add(prompt, generate,
                  {.text = {}, .done = [&, i](const Generation& generation) { got[i] = generation; }, .failed = {}});
  }
  while (scheduler.step()) {
  }
  for (std::size_t i = 0; i < 2; ++i) EXPECT_EQ(got.at(i).tokens, want.at(i).tokens);
}

TEST(SpeculationInCompany, WhoIsCancelledByItsOwnTextIsSilentAtOnce) {
  Engine engine(scripted_checkpoint({"a", "b", "c", "d", "e", "f"}), {.threads = 1, .context = 128, .logit_rows = 7});
  Scheduler scheduler(engine, {.most_running = 1});
  GenerateOptions options = asked(20, 0);
  options.drafter = std::make_shared<KnowingDrafter>(1, tokens_of({1, 2, 3, 4, 5, 0, 1, 2}), 0);
  std::string heard;
  Scheduler::Id self = 0;
  self = scheduler.add(tokens_of({0}), options,
                       {.text =
                            [&](std::string_view text) {
                              heard += text;
                              if (text == "d") scheduler.cancel(self);
                            },
                        .done = [&](const Generation&) { heard += "done"; },
                        .failed = {}});
  while (scheduler.step()) {
  }
  EXPECT_EQ(heard, "bcd");
  EXPECT_EQ(scheduler.free_pages(), scheduler.pages());
}

}  // namespace
}  // namespace puna
