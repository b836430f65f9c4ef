// Sixteen floats side by side, and the exponential of them.
//
// Included once for each instruction set, in a namespace of its own, with FASTPRUNE_WIDTH set to the
// floats in a register (hence no include guard). GCC's and Clang's vector extension does the rest.
// A lane holds every sixteenth element whatever the width, and the build forbids contraction
// to fused multiply-adds, so a sum is added in the same order and has the same bits everywhere.

typedef float Vector __attribute__((vector_size(4 * FASTPRUNE_WIDTH)));
typedef std::int32_t IntVector __attribute__((vector_size(4 * FASTPRUNE_WIDTH)));

constexpr int kLanes = 16;
constexpr int kWidth = FASTPRUNE_WIDTH;
constexpr int kRegisters = kLanes / kWidth;

inline Vector splat(float x) { return x - Vector{}; }

inline Vector load(const float* from) {
  Vector v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline Vector load_difference(const float* from, float reference) {
  return load(from) - splat(reference);
}
// Doubles are subtracted before they are rounded.
inline Vector load_difference(const double* from, double reference) {
  float v[kWidth];
  for (int i = 0; i < kWidth; ++i) v[i] = static_cast<float>(from[i] - reference);
  return load(v);
}

// The larger of each pair of lanes; b where a is NaN.
inline Vector max_lanes(Vector a, Vector b) { return a > b ? a : b; }

// Below this an exponential is taken as e^-43 = 2e-19. In a sum that holds a one, C such terms
// change it by less than C * 2e-19, far under a float's precision, while the square of the smallest
// stays a normal number: subnormal arithmetic costs a hundred cycles on many processors.
constexpr float kSmallestExponent = -43.0f;

// e^x for x <= 0, NaN for NaN. Relative error below 1.3e-7.
//
// x = n ln 2 + r with |r| <= ln(2)/2 and e^r = 1 + r + r^2 q(r), where q is a degree-4 minimax fit
// (3.6e-9). e^0 is exactly 1.
inline Vector exp_nonpositive(Vector x) {
  const Vector smallest = splat(kSmallestExponent);
  x = smallest > x ? smallest : x;  // false for NaN, which goes on
  const Vector magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vector shifted = x * 1.44269504f + magic;
  const Vector n = shifted - magic;
  // The high part of ln 2 has 9 significant bits, so its product with n is exact.
  const Vector r = (x - n * 0.693359375f) + n * 2.1219444e-4f;
  Vector q = r * 0.0013814539f + 0.008368745f;
  q = q * r + 0.04166839f;
  q = q * r + 0.16666521f;
  q = q * r + 0.49999994f;
  const Vector e = q * (r * r) + r + 1.0f;
  // The low bits of `shifted` hold n; moved into the exponent field they multiply e by 2^n.
  return (Vector)((IntVector)e + ((IntVector)shifted << 23));
}

// The sum of sixteen lanes, always as the same tree.
inline double sum_lanes(const Vector (&v)[kRegisters]) {
  float lane[kLanes], quarter[4];
  std::memcpy(lane, v, sizeof lane);
  for (int i = 0; i < 4; ++i) quarter[i] = (lane[i] + lane[i + 4]) + (lane[i + 8] + lane[i + 12]);
  return (static_cast<double>(quarter[0]) + quarter[1]) +
         (static_cast<double>(quarter[2]) + quarter[3]);
}

inline float max_of_lanes(const Vector (&v)[kRegisters]) {
  float lane[kLanes], quarter[4];
  std::memcpy(lane, v, sizeof lane);
  const auto larger = [](float a, float b) { return a > b ? a : b; };
  for (int i = 0; i < 4; ++i)
    quarter[i] = larger(larger(lane[i], lane[i + 4]), larger(lane[i + 8], lane[i + 12]));
  return larger(larger(quarter[0], quarter[1]), larger(quarter[2], quarter[3]));
}
