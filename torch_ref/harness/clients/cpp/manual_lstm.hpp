// Reads a case and writes a result for `manual-lstm check --command "./my_lstm {case} {result}"`,
// or with `--head none` for an LSTM that has no softmax and loss inside.
//
// One header, C++17, no library; little-endian machines. Whatever is wrong with a file is thrown
// as a std::exception.
//
//   T steps, B batch, I inputs, H hidden, V classes, layers k = 0, 1, ... Arrays are row-major.
//   A case:    weight_ih_lk (4H, I; above layer 0: 4H, H)   weight_hh_lk (4H, H)   bias_lk (4H)
//              rows in four blocks of H: input gate, forget gate, data gate g, output gate
//              x (T, B, I)   h0, c0, dh_n, dc_n (layers, B, H)
//              with a loss: targets (T, B), dloss (), and weight_out (V, H), bias_out (V) unless
//              the softmax takes h itself; without a loss: dy (T, B, H)
//   A result:  "loss" () or "y" (T, B, H), h_n, c_n (layers, B, H), and the gradient of every array
//              under "d" + its name: dweight_ih_l0, dx, dh0, ... The loss is the mean over T and B;
//              dloss, dh_n, dc_n are what flows back into the loss and into the last h and c.
//              h_n, c_n, dx, dh0 and dc0 may be left out; then they are not verified.
#pragma once

#include <cctype>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace manual_lstm {

template <class Real>
struct Array {
    std::vector<std::size_t> shape;
    std::vector<Real> data;

    Array() : data(1) {}  // a scalar
    explicit Array(const std::vector<std::size_t>& sizes) : shape(sizes), data(count(sizes)) {}

    // array(i), array(t, b, j), ... as many indices as there are axes; array() for a scalar.
    template <class... Index>
    Real& operator()(Index... index) { return data[offset({std::size_t(index)...})]; }
    template <class... Index>
    const Real& operator()(Index... index) const { return data[offset({std::size_t(index)...})]; }

    static std::size_t count(const std::vector<std::size_t>& sizes) {
        std::size_t product = 1;
        for (std::size_t size : sizes) product *= size;
        return product;
    }

  private:
    std::size_t offset(std::initializer_list<std::size_t> indices) const {
        if (indices.size() != shape.size()) throw std::runtime_error("wrong number of indices");
        std::size_t place = 0, axis = 0;
        for (std::size_t index : indices) {
            if (index >= shape[axis]) throw std::runtime_error("index out of range");
            place = place * shape[axis++] + index;
        }
        return place;
    }
};

inline std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path + " cannot be opened");
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline bool has(const std::string& folder, const std::string& name) {
    return std::ifstream(folder + "/" + name + ".npy").good();
}

// The array `name` of a case, its numbers converted to Real: float, double, int, ...
template <class Real = float>
Array<Real> read(const std::string& folder, const std::string& name) {
    const std::string path = folder + "/" + name + ".npy", bytes = read_file(path);
    if (bytes.size() < 10 || bytes.compare(0, 7, "\x93NUMPY\x01") != 0)
        throw std::runtime_error(path + " is not .npy of version 1");
    const std::size_t begin = 10 + std::uint8_t(bytes[8]) + 256 * std::uint8_t(bytes[9]);
    const std::string header = bytes.substr(10, begin - 10);
    auto after = [&](const std::string& key) {
        const std::size_t place = header.find(key);
        if (place == std::string::npos) throw std::runtime_error(path + " lacks " + key);
        return place + key.size();
    };
    const std::string type = header.substr(after("'descr': '"), 3);
    if (header.compare(after("'fortran_order': "), 5, "False") != 0)
        throw std::runtime_error(path + " is in Fortran order");
    std::vector<std::size_t> shape;
    for (std::size_t k = after("'shape': ("); k < header.size() && header[k] != ')';) {
        std::size_t length = 0;
        shape.push_back(std::stoul(header.substr(k), &length));
        k = header.find_first_not_of(", ", k + length);
    }
    Array<Real> array(shape);
    auto convert = [&](auto stored) {
        if (bytes.size() != begin + array.data.size() * sizeof stored)
            throw std::runtime_error(path + " has another size than its shape");
        const char* next = bytes.data() + begin;
        for (Real& element : array.data) {
            std::memcpy(&stored, next, sizeof stored);
            element = Real(stored);
            next += sizeof stored;
        }
    };
    if (type == "<f4") convert(float());
    else if (type == "<f8") convert(double());
    else if (type == "<i8") convert(std::int64_t());
    else throw std::runtime_error(path + " has elements of type " + type);
    return array;
}

// Before the first array of a result: its folder is made, and one that holds something is refused.
inline void begin_result(const std::string& folder) {
    std::filesystem::create_directory(folder);
    if (!std::filesystem::is_empty(folder))
        throw std::runtime_error(folder + " exists already: choose another path or remove it");
}

// The array `name` of a result, in the precision of Real: float or double.
template <class Real>
void write(const std::string& folder, const std::string& name, const Array<Real>& array) {
    static_assert(std::is_same_v<Real, float> || std::is_same_v<Real, double>);
    std::string shape;
    for (std::size_t size : array.shape) shape += std::to_string(size) + ", ";
    std::string header = "{'descr': '<f" + std::to_string(sizeof(Real)) +
                         "', 'fortran_order': False, 'shape': (" + shape + "), }";
    header.append(63 - (10 + header.size()) % 64, ' ') += '\n';
    std::ofstream file(folder + "/" + name + ".npy", std::ios::binary);
    file << "\x93NUMPY\x01" << '\0' << char(header.size() % 256) << char(header.size() / 256);
    file << header;
    file.write(reinterpret_cast<const char*>(array.data.data()),
               std::streamsize(array.data.size() * sizeof(Real)));
    if (!file.flush()) throw std::runtime_error(folder + "/" + name + ".npy cannot be written");
}

// Before everything else: is this a case that this header can read? With a layout or a variant of
// your own leave it out.
inline void check_case(const std::string& folder) {
    std::string text;
    for (char letter : read_file(folder + "/case.json"))
        if (!std::isspace(static_cast<unsigned char>(letter))) text += letter;
    for (const char* part : {"\"format\":\"manual-lstm-case\"", "\"version\":1,", "\"layout\":{}",
                             "\"variant\":{}"})
        if (text.find(part) == std::string::npos)
            throw std::runtime_error(folder + "/case.json must have " + part);
}

// After everything else: the result is complete.
inline void finish_result(const std::string& folder) {
    std::ofstream file(folder + "/result.json");
    file << "{\"format\": \"manual-lstm-result\", \"version\": 1}\n";
    if (!file.flush()) throw std::runtime_error(folder + "/result.json cannot be written");
}

}  // namespace manual_lstm
