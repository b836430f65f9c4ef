// The passes over scores and keys, compiled for each instruction set and picked for this machine.
//
// Gives passes<K>(nan) and key_passes<Key>(): tables of functions that do all the work on many scores. The comment at
// each declaration here says what the function does.
//
// Only select_topk.cpp includes this file, through other headers of this folder. So its namespace has no name. Memory:
// nothing beyond what the caller passes. Cost: every pass is one read of its input.
#pragma once

#include <algorithm>
#include <cstdint>

#include "platform/instruction_sets.h"
#include "platform/simd.h"
#include "selection/keys.h"

namespace fastprune {
namespace {

constexpr std::int64_t kBlock = 512;  // the scores of a block, on which a pass works at once

// How keys lie to a bracket [low, high]. `inside` are the keys strictly between the ends.
struct Counts {
  std::int64_t above = 0, at_high = 0, inside = 0;
  bool nan = false;  // whether a score is NaN

  Counts& operator+=(const Counts& other) {
    above += other.above;
    at_high += other.at_high;
    inside += other.inside;
    nan |= other.nan;
    return *this;
  }
};

// How many keys are above a pivot, and how many equal it.
struct Tally {
  std::int64_t above = 0, equal = 0;
};

// Where a selection ends: every key above `key` is selected, and the first `ties` of those equal to it.
template <class Key>
struct Threshold {
  Key key = 0;
  std::int64_t ties = 0;
};

// Passes over a block of n scores that lie side by side. The outputs of the first three need room for kMostLanes
// elements more than they get.
template <class K, class Key = typename K::Key>
struct Passes {
  // Writes the n keys. Returns whether a score is NaN.
  bool (*write_keys)(const char* block, std::int64_t n, Order<Key> order, Key* out);
  // Counts the keys by the bracket [low, high], and copies those strictly inside it. Requires n <= 2^30.
  Counts (*count)(const char* block, std::int64_t n, Order<Key> order, Key low, Key high, Key* inside);
  // Copies the keys from `low` on, and the place `first` + i for each of them. Their number is in Counts::inside.
  Counts (*collect)(const char* block, std::int64_t n, Order<Key> order, Key low, Key first, Key* keys_out,
                    Key* places_out);
  // Writes the index `first` + i of each key that is above the threshold, and of those equal to it as long as `ties`
  // lasts. Writes at most `room` indices, and nothing outside of them. Returns how many. `sparse` says that most
  // registers hold no such key.
  std::int64_t (*write_indices)(const char* block, std::int64_t n, Order<Key> order, Key threshold,
                                std::int64_t& ties, bool sparse, std::int64_t first, std::int64_t* out,
                                std::int64_t room);
};

// Passes over n keys that lie side by side.
template <class Key>
struct KeyPasses {
  Tally (*tally)(const Key* keys, std::int64_t n, Key pivot);
  // The k-th largest key, 1 <= k <= n. O(n) expected. It overwrites the keys and needs room for kMostLanes more.
  Threshold<Key> (*kth_largest)(Key* keys, std::int64_t n, std::int64_t k);
};

#define FASTPRUNE_PORTABLE_WIDTH 1
#define FASTPRUNE_KERNELS "selection/passes-inl.h"
#include "platform/each_instruction_set.h"

// `nan` is for scores that may hold one. Without it the keys of NaN are unspecified, and the work is a third less.
template <class K>
Passes<K> passes(bool nan = true) { return FASTPRUNE_DISPATCH(passes<K>(nan)); }

template <class Key>
KeyPasses<Key> key_passes() { return FASTPRUNE_DISPATCH(key_passes<Key>()); }

}  // namespace
}  // namespace fastprune
