// SPDX-License-Identifier: Apache-2.0
// GET /: the page; and what its views of training and of comparisons ask for.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>

#include "base/error.h"
#include "server/chat_prompt.h"
#include "server/line_file.h"
#include "server/page.h"
#include "server/request_json.h"
#include "server/routes/routes.h"
#include "train/recipe.h"

namespace puna::routes {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostRows = 20'000;  // of metrics in one answer
constexpr auto kStillRunning = std::chrono::minutes(5);

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// A run's folder, which lies in the folder of runs and nowhere else: its name is one of those that are listed.
fs::path run_folder(const Services& services, std::string_view name) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(services.runs, error)) {
    if (entry.path().filename() == name && fs::is_regular_file(entry.path() / "metrics.jsonl", error)) return entry.path();
  }
  throw ApiError(404, "run_not_found", "run", fmt::format("there is no training run \"{}\" here", name.substr(0, 200)));
}

std::int64_t last_step(const std::vector<std::string>& lines) {
  if (lines.empty()) return 0;
  const Json row = Json::parse(lines.back(), nullptr, false);
  return row.is_object() && row.contains("step") && row.at("step").is_number_integer() ? row.at("step").get<std::int64_t>() : 0;
}

Json run_json(const fs::path& folder) {
  Recipe recipe;
  try {
    recipe = parse_recipe(read_text(folder / "recipe.yaml"), "recipe.yaml");
  } catch (const Error&) {
    recipe.objective = "";  // of another version: its figures can be shown all the same
  }
  std::error_code error;
  const auto written = std::chrono::file_clock::to_sys(fs::last_write_time(folder / "metrics.jsonl", error));
  const std::int64_t step = last_step(complete_lines(folder / "metrics.jsonl"));
  const bool finished = recipe.steps > 0 && step >= recipe.steps;
  const bool running = std::chrono::system_clock::now() - written < kStillRunning;
  return {{"name", folder.filename().string()},
          {"objective", recipe.objective},
          {"description", recipe.description},
          {"state", finished  ? "finished"
                    : running ? "running"
                              : "stopped"},
          {"step", step},
          {"steps", recipe.steps},
          {"updated", std::chrono::duration_cast<std::chrono::seconds>(written.time_since_epoch()).count()}};
}

std::mutex& votes_mutex() {
  static std::mutex mutex;
  return mutex;
}

constexpr std::array<FieldRule, 6> kVoteFields = {{{"prompt", FieldKind::kList, 1, 1000, true},
                                                   {"chosen", FieldKind::kList, 1, 10, true},
                                                   {"rejected", FieldKind::kList, 1, 10, true},
                                                   {"chosen_model", FieldKind::kText, 0, 512},
                                                   {"rejected_model", FieldKind::kText, 0, 512},
                                                   {"winner", FieldKind::kText, 1, 8, true}}};

void need_votes(const Services& services) {
  if (services.votes.empty()) throw ApiError(404, "votes_not_kept", "", "this server keeps no votes: start it with --votes FILE");
}

}  // namespace

void page(Services&, Asked exchange) {
  const HttpRequest& request = exchange->request();
  HttpResponse response{.status = 200, .content_type = "text/html; charset=utf-8", .body = "", .headers = {}};
  response.headers.emplace_back("ETag", page_etag());
  response.headers.emplace_back("Content-Security-Policy", page_policy());
  response.headers.emplace_back("Referrer-Policy", "no-referrer");
  response.headers.emplace_back("Vary", "Accept-Encoding");
  response.headers.emplace_back("Cache-Control", "no-cache");
  if (request.header("if-none-match").find(page_etag()) != std::string_view::npos) {
    response.status = 304;
  } else if (request.header("accept-encoding").find("gzip") != std::string_view::npos) {
    response.headers.emplace_back("Content-Encoding", "gzip");
    response.body = page_gzip();
  } else {
    response.body = page_html();
  }
  exchange->send(std::move(response));
}

void list_runs(Services& services, Asked exchange) {
  std::vector<fs::path> folders;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(services.runs, error)) {
    if (fs::is_regular_file(entry.path() / "metrics.jsonl", error)) folders.push_back(entry.path());
  }
  std::ranges::sort(folders);
  Json runs = Json::array();
  for (const fs::path& folder : folders) runs.push_back(run_json(folder));
  exchange->send_json({{"runs", std::move(runs)}});
}

void run_metrics(Services& services, Asked exchange) {
  const fs::path folder = run_folder(services, exchange->path_rest());
  const std::string after_text = exchange->query("after");
  const std::size_t after = after_text.empty() ? 0 : std::strtoul(after_text.c_str(), nullptr, 10);
  const std::vector<std::string> lines = complete_lines(folder / "metrics.jsonl");
  // A run that went on from a checkpoint has cut lines off: then everything is told again.
  const std::size_t from = after > lines.size() ? 0 : after;
  const std::size_t to = std::min(lines.size(), from + kMostRows);
  Json rows = Json::array();
  for (std::size_t i = from; i < to; ++i) {
    Json row = Json::parse(lines[i], nullptr, false);
    if (row.is_object()) rows.push_back(std::move(row));
  }
  exchange->send_json({{"rows", std::move(rows)}, {"from", from}, {"next", to}});
}

void run_recipe(Services& services, Asked exchange) {
  const fs::path folder = run_folder(services, exchange->path_rest());
  exchange->send({.status = 200, .content_type = "text/yaml; charset=utf-8", .body = read_text(folder / "recipe.yaml")});
}

void list_votes(Services& services, Asked exchange) {
  need_votes(services);
  const std::scoped_lock lock(votes_mutex());
  Json votes = Json::array();
  for (const std::string& line : complete_lines(services.votes)) {
    Json vote = Json::parse(line, nullptr, false);
    if (vote.is_object()) votes.push_back(std::move(vote));
  }
  exchange->send_json({{"votes", std::move(votes)}});
}

std::span<const FieldRule> vote_fields() { return kVoteFields; }

void add_vote(Services& services, Asked exchange) {
  need_votes(services);
  const Json body = parse_request(exchange->request().body);
  check_fields(body, kVoteFields);
  for (const char* list : {"prompt", "chosen", "rejected"}) read_messages(body, list);
  const auto winner = body.at("winner").get<std::string>();
  if (winner != "a" && winner != "b" && winner != "tie" && winner != "bad")
    refuse_field("winner", "\"winner\" is \"{}\", expected a, b, tie or bad", winner);
  const std::scoped_lock lock(votes_mutex());
  try {
    append_line(services.votes, dump_json(body));
  } catch (const Error& error) {
    fmt::print(stderr, "puna: {}: {}\n", exchange->id(), error.what());  // with its path, which is for the operator only
    throw ApiError(507, "votes_not_written", "",
                   "the vote could not be written: the disk is full, or the file may not be written to");
  }
  exchange->send_json({{"kept", true}});
}

}  // namespace puna::routes
