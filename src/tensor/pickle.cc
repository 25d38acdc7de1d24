// SPDX-License-Identifier: Apache-2.0
// Values live in one pool and are named by index, so a value that is stored twice, or inside itself, costs nothing and cannot loop:
// only the walk over the finished dictionary follows indices, and that walk counts its steps and its depth.
#include "tensor/pickle.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "tensor/pickle_names.h"

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie in the file");

namespace puna {
namespace {

constexpr std::size_t kMostValues = 4 << 20;     // in the pool, and as many recalled from the memo: some 200 thousand tensors
constexpr std::size_t kMostTensors = 256 << 10;  // built of recalled values, one takes a hundred times its five bytes
constexpr std::size_t kMostVisits =
    1 << 20;                            // of values during the walk, or one per byte of a shorter stream: repetition stops here
constexpr std::size_t kMostDims = 16;   // a tuple can be shared by many tensors, each of which keeps a copy
constexpr std::size_t kNameShare = 4;   // so many times the stream's bytes all names together may have
constexpr std::size_t kNameStart = 16;  // bytes that each counts as beside its own, so that short ones end too
constexpr int kDeepest = 32;            // dictionaries inside dictionaries
constexpr std::size_t kLongestName = 1024;

using Index = std::uint32_t;

struct Value {
  enum class Kind { kOther, kInteger, kText, kName, kTuple, kList, kDict, kStorage, kTensor };
  Kind kind = Kind::kOther;  // kOther: None, booleans, reals
  std::int64_t integer = 0;  // or the place in kPickleNames, in storages_, in tensors_
  std::string_view text;
  std::vector<Index> items;  // of a dictionary: key, value, key, value ...
};
using Kind = Value::Kind;

class Machine {
 public:
  Machine(std::span<const std::byte> stream, const std::string& where) : stream_(stream), where_(where) {}

  std::vector<PickledTensor> run() {
    while (!stopped_) step();
    const Index top = pop();
    if (values_[top].kind != Kind::kDict) damaged("holds no dictionary of tensors");
    walk(top, "", 0);
    return std::move(found_);
  }

 private:
  [[noreturn]] void damaged(const char* what) const {
    fail(ErrorKind::kBadInput, where_, "the pickle stream {} (byte {}): the file is damaged", what, position_);
  }

  // --- reading ---
  std::span<const std::byte> take(std::uint64_t size) {
    if (size > stream_.size() - position_) damaged("ends in the middle of a value");
    const auto bytes = stream_.subspan(position_, size);
    position_ += size;
    return bytes;
  }
  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string_view text(std::uint64_t size) {
    const auto bytes = take(size);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  std::string_view line() {
    const std::string_view rest(reinterpret_cast<const char*>(stream_.data()) + position_, stream_.size() - position_);
    const std::size_t end = rest.find('\n');
    if (end == std::string_view::npos) damaged("ends in the middle of a name");
    position_ += end + 1;
    return rest.substr(0, end);
  }
  // A little-endian two's complement integer of any length up to eight bytes.
  std::int64_t long_integer() {
    const auto bytes = take(number<std::uint8_t>());
    if (bytes.size() > 8) damaged("holds an integer of more than 64 bits");
    std::uint64_t value = !bytes.empty() && (static_cast<unsigned>(bytes.back()) & 0x80) ? ~std::uint64_t{0} : 0;
    for (std::size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<std::uint64_t>(bytes[i]);
    return static_cast<std::int64_t>(value);
  }

  // --- the stack ---
  void push(Value value) {
    if (values_.size() >= kMostValues) damaged("builds too many values");
    values_.push_back(std::move(value));
    stack_.push_back(static_cast<Index>(values_.size() - 1));
  }
  void push_integer(std::int64_t value) { push({Kind::kInteger, value, {}, {}}); }
  void push_text(std::string_view value) { push({Kind::kText, 0, value, {}}); }
  Index pop() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) damaged("takes more values than it made");
    const Index index = stack_.back();
    stack_.pop_back();
    return index;
  }
  Index top() const {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) damaged("takes more values than it made");
    return stack_.back();
  }
  std::vector<Index> pop_to_mark() {
    if (marks_.empty()) damaged("closes what it did not open");
    std::vector<Index> items(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }
  void push_tuple(std::size_t size) {
    Value tuple{Kind::kTuple, 0, {}, std::vector<Index>(size)};
    for (std::size_t i = size; i-- > 0;) tuple.items[i] = pop();
    push(std::move(tuple));
  }
  void extend(Kind kind, const std::vector<Index>& items) {
    Value& container = values_[top()];
    if (container.kind != kind || (kind == Kind::kDict && items.size() % 2 != 0)) damaged("adds items to what cannot hold them");
    container.items.insert(container.items.end(), items.begin(), items.end());
  }

  // --- opcodes ---
  void step();
  bool literal(char opcode);
  bool container(char opcode);
  bool memo(char opcode);
  bool object(char opcode);
  void read_name();
  void read_storage();
  void call();
  void rebuild_tensor(const std::vector<Index>& arguments, bool typed);
  std::vector<std::uint64_t> dims_of(Index index) const;
  std::uint64_t count_of(Index index) const;

  // --- the result ---
  void walk(Index index, const std::string& name, int depth);
  void find(const PickledTensor& tensor, const std::string& name);

  std::span<const std::byte> stream_;
  const std::string& where_;
  std::uint64_t position_ = 0;
  bool stopped_ = false;
  std::vector<Value> values_;
  std::vector<Index> stack_;
  std::vector<std::size_t> marks_;  // heights of the stack
  std::unordered_map<std::uint32_t, Index> memo_;
  std::vector<PickledStorage> storages_;
  std::vector<PickledTensor> tensors_, found_;
  std::size_t recalls_ = 0, visits_ = 0, named_ = 0;
};

void Machine::step() {
  const char opcode = number<char>();
  if (literal(opcode) || container(opcode) || memo(opcode) || object(opcode)) return;
  fail(ErrorKind::kBadInput, where_, "the pickle stream uses opcode 0x{:02x} at byte {}: refused, only tensors are read",
       static_cast<unsigned char>(opcode), position_ - 1);
}

bool Machine::literal(char opcode) {
  switch (opcode) {
    case 'N':     // NONE
    case '\x88':  // NEWTRUE
    case '\x89':
      return push({}), true;  // NEWFALSE
    case 'G':
      return take(8), push({}), true;  // BINFLOAT
    case 'K':
      return push_integer(number<std::uint8_t>()), true;  // BININT1
    case 'M':
      return push_integer(number<std::uint16_t>()), true;  // BININT2
    case 'J':
      return push_integer(number<std::int32_t>()), true;  // BININT
    case '\x8a':
      return push_integer(long_integer()), true;  // LONG1
    case 'X':
      return push_text(text(number<std::uint32_t>())), true;  // BINUNICODE
    case 'U':
      return push_text(text(number<std::uint8_t>())), true;  // SHORT_BINSTRING
    default:
      return false;
  }
}

bool Machine::container(char opcode) {
  switch (opcode) {
    case '(':
      return marks_.push_back(stack_.size()), true;  // MARK
    case ')':
      return push_tuple(0), true;  // EMPTY_TUPLE
    case '\x85':
      return push_tuple(1), true;  // TUPLE1
    case '\x86':
      return push_tuple(2), true;  // TUPLE2
    case '\x87':
      return push_tuple(3), true;  // TUPLE3
    case 't':
      return push({Kind::kTuple, 0, {}, pop_to_mark()}), true;  // TUPLE
    case ']':
      return push({Kind::kList, 0, {}, {}}), true;  // EMPTY_LIST
    case '}':
      return push({Kind::kDict, 0, {}, {}}), true;  // EMPTY_DICT
    case 'e':
      return extend(Kind::kList, pop_to_mark()), true;  // APPENDS
    case 'u':
      return extend(Kind::kDict, pop_to_mark()), true;  // SETITEMS
    case 'a':
      return extend(Kind::kList, {pop()}), true;  // APPEND
    case 's': {                                   // SETITEM
      const Index value = pop(), key = pop();
      return extend(Kind::kDict, {key, value}), true;
    }
    default:
      return false;
  }
}

bool Machine::memo(char opcode) {
  switch (opcode) {
    case 'q':
      return memo_[number<std::uint8_t>()] = top(), true;  // BINPUT
    case 'r':
      return memo_[number<std::uint32_t>()] = top(), true;  // LONG_BINPUT
    case 'h':                                               // BINGET
    case 'j': {                                             // LONG_BINGET
      const auto at = memo_.find(opcode == 'h' ? number<std::uint8_t>() : number<std::uint32_t>());
      if (at == memo_.end()) damaged("recalls a value that it did not keep");
      if (++recalls_ > kMostValues) damaged("builds too many values");
      return stack_.push_back(at->second), true;
    }
    default:
      return false;
  }
}

bool Machine::object(char opcode) {
  switch (opcode) {
    case '\x80':  // PROTO
      if (const auto version = number<std::uint8_t>(); version != 2) {
        fail(ErrorKind::kUnsupported, where_, "the pickle stream has protocol {}, expected 2: save the file again with torch.save",
             version);
      }
      return true;
    case 'c':
      return read_name(), true;  // GLOBAL
    case 'Q':
      return read_storage(), true;  // BINPERSID
    case 'R':
      return call(), true;  // REDUCE
    case 'b':               // BUILD: attributes of a dictionary, such as _metadata
      pop();
      if (const Kind kind = values_[top()].kind; kind != Kind::kDict && kind != Kind::kTensor)
        damaged("sets the state of no object");
      return true;
    case '.':
      return stopped_ = true;  // STOP
    default:
      return false;
  }
}

void Machine::read_name() {
  const std::string_view module = line(), name = line();
  const auto known = std::find_if(kPickleNames.begin(), kPickleNames.end(),
                                  [&](const PickleName& row) { return row.module == module && row.name == name; });
  if (known == kPickleNames.end()) {
    const std::string escaped = fmt::format("{:?}", fmt::format("{}.{}", module.substr(0, 100), name.substr(0, 100)));  // in quotes
    fail(ErrorKind::kBadInput, where_, "the pickle stream asks for {}: refused, only tensors are read",
         std::string_view(escaped).substr(1, escaped.size() - 2));
  }
  push({Kind::kName, known - kPickleNames.begin(), {}, {}});
}

// ('storage', type, key, device, count) -> storage
void Machine::read_storage() {
  const Value& tuple = values_[pop()];
  if (tuple.kind != Kind::kTuple || tuple.items.size() != 5) damaged("refers to an object that is no storage");
  const Value &mark = values_[tuple.items[0]], &type = values_[tuple.items[1]], &key = values_[tuple.items[2]];
  if (mark.text != "storage" || type.kind != Kind::kName || key.kind != Kind::kText)
    damaged("refers to an object that is no storage");
  const PickleName& name = kPickleNames[static_cast<std::size_t>(type.integer)];
  if (name.role != PickleRole::kStorage && name.role != PickleRole::kBytes) damaged("refers to a storage of no type");
  storages_.push_back({key.text, name.name, name.format, count_of(tuple.items[4])});
  push({Kind::kStorage, static_cast<std::int64_t>(storages_.size() - 1), {}, {}});
}

void Machine::call() {
  const Index arguments_at = pop(), name_at = pop();
  if (values_[name_at].kind != Kind::kName || values_[arguments_at].kind != Kind::kTuple) damaged("calls what is no function");
  const std::vector<Index>& arguments = values_[arguments_at].items;  // until a push moves the pool
  switch (kPickleNames[static_cast<std::size_t>(values_[name_at].integer)].role) {
    case PickleRole::kOrderedDict:
      if (!arguments.empty()) damaged("fills a dictionary in an unknown way");
      return push({Kind::kDict, 0, {}, {}});
    case PickleRole::kSize:
      return push({});
    case PickleRole::kTensor:
      return rebuild_tensor(arguments, false);
    case PickleRole::kTypedTensor:
      return rebuild_tensor(arguments, true);
    case PickleRole::kParameter:
      if (arguments.empty() || values_[arguments[0]].kind != Kind::kTensor) damaged("makes a parameter of no tensor");
      return stack_.push_back(arguments[0]);
    default:
      damaged("calls what is no function");
  }
}

void Machine::rebuild_tensor(const std::vector<Index>& arguments, bool typed) {
  if (arguments.size() < (typed ? 7u : 6u) || values_[arguments[0]].kind != Kind::kStorage)
    damaged("builds a tensor of no storage");
  if (tensors_.size() >= kMostTensors) damaged("builds too many tensors");
  PickledTensor tensor;
  tensor.storage = storages_[static_cast<std::size_t>(values_[arguments[0]].integer)];
  tensor.type = tensor.storage.type;
  tensor.format = tensor.storage.format;
  tensor.offset = count_of(arguments[1]);
  tensor.dims = dims_of(arguments[2]);
  tensor.strides = dims_of(arguments[3]);
  if (tensor.dims.size() != tensor.strides.size()) damaged("gives a tensor another number of strides than of dimensions");
  if (typed) {
    const Value& type = values_[arguments[6]];
    const auto* name = type.kind == Kind::kName ? &kPickleNames[static_cast<std::size_t>(type.integer)] : nullptr;
    if (name == nullptr || name->role != PickleRole::kDtype || tensor.storage.type != "UntypedStorage")
      damaged("builds a tensor of no type");
    tensor.type = name->name;
    tensor.format = name->format;
  }
  tensors_.push_back(std::move(tensor));
  push({Kind::kTensor, static_cast<std::int64_t>(tensors_.size() - 1), {}, {}});
}

std::uint64_t Machine::count_of(Index index) const {
  const Value& value = values_[index];
  if (value.kind != Kind::kInteger || value.integer < 0) damaged("counts with what is no number");
  return static_cast<std::uint64_t>(value.integer);
}

std::vector<std::uint64_t> Machine::dims_of(Index index) const {
  if (values_[index].kind != Kind::kTuple || values_[index].items.size() > kMostDims) damaged("gives a tensor no dimensions");
  std::vector<std::uint64_t> dims;
  for (const Index item : values_[index].items) dims.push_back(count_of(item));
  return dims;
}

// A container that is shared many times would give its tensors more names than the stream has bytes for.
void Machine::find(const PickledTensor& tensor, const std::string& name) {
  named_ += kNameStart + name.size();
  if (named_ > kNameShare * stream_.size()) damaged("repeats its tensors too often");
  found_.push_back(tensor);
  found_.back().name = name;
}

void Machine::walk(Index index, const std::string& name, int depth) {
  if (++visits_ > std::min(kMostVisits, stream_.size()) || depth > kDeepest || name.size() > kLongestName)
    damaged("nests its dictionaries too deep");
  const Value& value = values_[index];
  const auto below = [&](std::string_view key) { return name.empty() ? std::string(key) : fmt::format("{}.{}", name, key); };
  if (value.kind == Kind::kTensor) {
    find(tensors_[static_cast<std::size_t>(value.integer)], name);
  } else if (value.kind == Kind::kDict) {
    for (std::size_t i = 0; i < value.items.size(); i += 2) {
      const Value& key = values_[value.items[i]];
      if (key.text.size() > kLongestName) damaged("holds a key that is too long");
      walk(value.items[i + 1], below(key.kind == Kind::kInteger ? std::to_string(key.integer) : std::string(key.text)), depth + 1);
    }
  } else if (value.kind == Kind::kList || value.kind == Kind::kTuple) {
    for (std::size_t i = 0; i < value.items.size(); ++i) walk(value.items[i], below(std::to_string(i)), depth + 1);
  }
}

}  // namespace

std::vector<PickledTensor> read_pickle(std::span<const std::byte> stream, const std::string& where) {
  return Machine(stream, where).run();
}

}  // namespace puna
