// SPDX-License-Identifier: Apache-2.0
// The stack machine on hand-written streams: what it builds, and that it refuses everything else by name.
#include "tensor/pickle.h"

#include <gtest/gtest.h>

#include "expect_error.h"
#include "tensor/raw_bytes.h"

namespace puna {
namespace {

using testing::ElementsAre;

const std::string kStart = "\x80\x02";

std::string text(const std::string& value) { return "X" + little_endian(value.size(), 4) + value; }
std::string name(const std::string& module, const std::string& value) { return "c" + module + "\n" + value + "\n"; }
std::string byte(int value) { return std::string("K") + static_cast<char>(value); }

std::string storage(const std::string& type, int count) {
  return "(" + text("storage") + type + text("0") + text("cpu") + byte(count) + "tQ";
}

std::string repeated(const std::string& value, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += value;
  return all;
}

// A tensor [2, 3] of floats.
std::string tensor(const std::string& size = byte(2) + byte(3) + "\x86", const std::string& stride = byte(3) + byte(1) + "\x86") {
  return name("torch._utils", "_rebuild_tensor_v2") + "(" + storage(name("torch", "FloatStorage"), 6) + byte(0) + size + stride +
         "\x89" + name("collections", "OrderedDict") + ")RtR";
}

std::vector<PickledTensor> read_body(const std::string& body) { return read_pickle(bytes_of(kStart + body), "f.pth"); }

void expect_refused(std::string_view message, const std::string& body, ErrorKind kind = ErrorKind::kBadInput) {
  expect_error(kind, message, [&] { read_body(body); });
}

TEST(Pickle, BuildsATensor) {
  const std::string stream = kStart + "}" + text("w") + tensor() + "s.";
  const auto tensors = read_pickle(bytes_of(stream), "f.pth");
  ASSERT_EQ(tensors.size(), 1u);
  EXPECT_EQ(tensors[0].name, "w");
  EXPECT_EQ(tensors[0].storage.key, "0");
  EXPECT_EQ(tensors[0].storage.type, "FloatStorage");
  EXPECT_EQ(tensors[0].storage.count, 6u);
  EXPECT_EQ(tensors[0].format, Format::kF32);
  EXPECT_THAT(tensors[0].dims, ElementsAre(2, 3));
  EXPECT_THAT(tensors[0].strides, ElementsAre(3, 1));
}

TEST(Pickle, JoinsNamesOfNestedContainers) {
  const auto tensors = read_body("}(" + text("a") + "}" + text("b") + tensor() + "s" + text("list") + "]" + tensor() + "a" +
                                 byte(7) + "(" + tensor() + "t" + "u.");
  ASSERT_EQ(tensors.size(), 3u);
  EXPECT_EQ(tensors[0].name, "a.b");
  EXPECT_EQ(tensors[1].name, "list.0");
  EXPECT_EQ(tensors[2].name, "7.0");
}

TEST(Pickle, SkipsValuesThatAreNoTensors) {
  EXPECT_TRUE(read_body("}(" + text("n") + "N" + text("t") + "\x88" + text("f") + "\x89" + text("d") + "G12345678" + text("i") +
                        "J\xff\xff\xff\xff" + text("m") + "M\x01\x01" + text("l") + "\x8a\x05\x01\x02\x03\x04\x05" + text("z") +
                        std::string("\x8a\0", 2) + text("s") + "U\x03xyz" + text("e") + ")" + "u.")
                  .empty());
}

TEST(Pickle, RemembersThroughTheMemo) {
  const auto tensors = read_body("}(" + text("a") + "q\x05" + tensor() + "r" + little_endian(70000, 4) + text("b") + "j" +
                                 little_endian(70000, 4) + "u.");
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[1].name, "b");
  EXPECT_EQ(read_body("}" + text("a") + "q\x05" + tensor() + "s" + "h\x05" + "N" + "s.").size(), 1u);
}

TEST(Pickle, ParametersAndAttributesPassThrough) {
  const std::string parameter =
      name("torch._utils", "_rebuild_parameter") + "(" + tensor() + "\x88" + name("collections", "OrderedDict") + ")RtR";
  EXPECT_EQ(
      read_body(name("collections", "OrderedDict") + ")R" + text("w") + parameter + "s" + "}" + text("_metadata") + "Nsb.").size(),
      1u);
}

TEST(Pickle, TypedTensorsOverBytes) {
  const auto typed = [](const std::string& type) {
    return "}" + text("w") + name("torch._utils", "_rebuild_tensor_v3") + "(" +
           storage(name("torch.storage", "UntypedStorage"), 6) + byte(0) + byte(6) + "\x85" + byte(1) + "\x85" + "\x89" +
           name("collections", "OrderedDict") + ")R" + type + "tRs.";
  };
  EXPECT_EQ(read_body(typed(name("torch", "float8_e4m3fn")))[0].format, Format::kF8E4M3);
  const std::string other = kStart + typed(name("torch", "float8_e5m2"));
  const auto tensors = read_pickle(bytes_of(other), "f.pth");
  EXPECT_FALSE(tensors[0].format);
  EXPECT_EQ(tensors[0].type, "float8_e5m2");
  expect_refused("builds a tensor of no type", typed("N"));
  expect_refused("builds a tensor of no type", typed(name("torch", "Size")));
}

TEST(Pickle, RefusesEveryOtherName) {
  expect_refused("[f.pth] the pickle stream asks for os.system: refused, only tensors are read",
                 name("os", "system") + text("echo hi") + "\x85R.");
  expect_refused("asks for builtins.eval:", name("builtins", "eval") + text("1") + "\x85R.");
  expect_refused("asks for torch.load:", name("torch", "load") + ".");
  expect_refused("asks for a\\x1b.b:", name("a\x1b", "b") + ".");
}

TEST(Pickle, RefusesEveryOtherOpcode) {
  expect_refused("uses opcode 0x81 at byte 2: refused, only tensors are read", "\x81");
  expect_refused("uses opcode 0x93", "\x93");  // STACK_GLOBAL
  expect_refused("uses opcode 0x69", "i");     // INST
  expect_refused("uses opcode 0x6f", "o");     // OBJ
  expect_error(ErrorKind::kUnsupported, "protocol 4, expected 2", [] { read_pickle(bytes_of("\x80\x04."), "f.pth"); });
}

TEST(Pickle, CallsNothingThatIsNoConstructor) {
  expect_refused("calls what is no function", text("x") + ")R.");
  expect_refused("calls what is no function", name("torch", "FloatStorage") + ")R.");
  expect_refused("calls what is no function", name("collections", "OrderedDict") + "NR.");
  expect_refused("fills a dictionary in an unknown way", name("collections", "OrderedDict") + "N\x85R.");
  expect_refused("builds a tensor of no storage", name("torch._utils", "_rebuild_tensor_v2") + ")R.");
  expect_refused("makes a parameter of no tensor", name("torch._utils", "_rebuild_parameter") + "N\x85R.");
  expect_refused("sets the state of no object", "NNb.");
}

TEST(Pickle, RefusesStoragesThatAreNone) {
  expect_refused("refers to an object that is no storage", "NQ.");
  expect_refused("refers to an object that is no storage", "(" + text("module") + "NNNNtQ.");
  expect_refused("refers to a storage of no type", storage(name("torch", "Size"), 1) + ".");
  expect_refused("counts with what is no number",
                 "(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + "NtQ.");
}

TEST(Pickle, RefusesImpossibleTensors) {
  const auto built = [](const std::string& size, const std::string& stride) {
    return "}" + text("w") + tensor(size, stride) + "s.";
  };
  expect_refused("another number of strides than of dimensions", built(byte(1) + "\x85", ")"));
  expect_refused("counts with what is no number", built("J\xff\xff\xff\xff\x85", byte(1) + "\x85"));
  expect_refused("gives a tensor no dimensions", built("N", ")"));
  expect_refused("gives a tensor no dimensions", built("(" + std::string(40, 'N') + "t", ")"));
}

TEST(Pickle, RefusesBrokenStacks) {
  expect_refused("takes more values than it made", "s.");
  expect_refused("takes more values than it made", "N(s.");  // not below a mark
  expect_refused("takes more values than it made", ".");
  expect_refused("closes what it did not open", "t.");
  expect_refused("adds items to what cannot hold them", "N(u.");
  expect_refused("adds items to what cannot hold them", "}(Nu.");
  expect_refused("adds items to what cannot hold them", "}(Ne.");
  expect_refused("recalls a value that it did not keep", "h\x01.");
  expect_refused("holds no dictionary of tensors", "N.");
  expect_refused("holds no dictionary of tensors", tensor() + ".");
}

TEST(Pickle, RefusesStreamsThatEnd) {
  const std::string whole = kStart + "}" + text("w") + tensor() + "s.";
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THROW(read_pickle(bytes_of(whole).first(size), "f.pth"), Error) << size;
  }
  expect_refused("ends in the middle of a value", "X" + little_endian(0xffffffff, 4) + "short");
  expect_refused("ends in the middle of a name", "cos");
  expect_refused("holds an integer of more than 64 bits", "\x8a\x09" + std::string(9, '\x01'));
}

TEST(Pickle, DictionariesInsideThemselvesEnd) {
  expect_refused("nests its dictionaries too deep", "}q\x01" + text("a") + "h\x01s.");
}

TEST(Pickle, DictionariesThatRepeatThemselvesEnd) {
  std::string stream = "}q" + std::string(1, '\0');  // each level holds the one before twice: 2^31 walks
  for (char level = 1; level < 31; ++level) {
    const std::string before = std::string("h") + static_cast<char>(level - 1);
    stream += "}q" + std::string(1, level) + "(" + text("a") + before + text("b") + before + "u";
  }
  expect_refused("nests its dictionaries too deep", stream + ".");
}

TEST(Pickle, HugeStreamsOfValuesEnd) {
  expect_refused("builds too many values", std::string(5 << 20, ')'));
  expect_refused("builds too many values", "Nq\x01" + repeated("h\x01", 5 << 20));
  const std::string arguments = "(" + storage(name("torch", "FloatStorage"), 6) + byte(0) + "))" + "NNt";
  expect_refused("builds too many tensors",
                 name("torch._utils", "_rebuild_tensor_v2") + "q\x01" + arguments + "q\x02" + repeated("h\x01h\x02R", 300'000));
}

// Were they copied for every call, this would take minutes.
TEST(Pickle, LongArgumentsCostNothingToCallWith) {
  const std::string arguments = "Nq\x01(" + repeated("h\x01", 1 << 20) + "tq\x02";
  EXPECT_TRUE(read_body(arguments + name("torch", "Size") + "q\x03(" + repeated("h\x03h\x02R", 200'000) + "t}.").empty());
}

TEST(Pickle, TensorsUnderManyNamesEnd) {
  std::string shared = "}(" + text("first") + tensor() + "q\x01", all = "}(";
  for (int i = 0; i < 1000; ++i) shared += text(std::to_string(i) + std::string(490, 'a')) + "h\x01";
  all += text("first") + shared + "uq\x02";
  for (int i = 0; i < 1000; ++i) all += text(std::to_string(i) + std::string(490, 'b')) + "h\x02";
  expect_refused("repeats its tensors too often", all + "u.");
  expect_refused("repeats its tensors too often", "}" + text("w") + "](" + tensor() + "q\x01" + repeated("h\x01", 1000) + "es.");
}

TEST(Pickle, NamesHaveALength) {
  expect_refused("holds a key that is too long", "}" + text(std::string(2000, 'a')) + tensor() + "s.");
}

}  // namespace
}  // namespace puna
