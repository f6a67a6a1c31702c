// my_lstm CASE RESULT [--mistake NAME]: the LSTM of lstm.hpp on a case of manual-lstm.
#include <cstdio>
#include <string>
#include <vector>

#include "lstm.hpp"
#include "manual_lstm.hpp"

using manual_lstm::Array;

namespace {

// Calls visit(gate, first row of its block in the files) for each gate of a layer.
template <class Visit>
void for_each_gate(Layer& layer, Visit visit) {
    visit(layer.input, 0);
    visit(layer.forget, layer.hidden);
    visit(layer.data, 2 * layer.hidden);
    visit(layer.output, 3 * layer.hidden);
}

void load(Layer& layer, const std::string& folder, const std::string& k) {
    const auto W = manual_lstm::read(folder, "weight_ih_l" + k);
    const auto U = manual_lstm::read(folder, "weight_hh_l" + k);
    const auto bias = manual_lstm::read(folder, "bias_l" + k);
    for_each_gate(layer, [&](Gate& gate, int block) {
        for (int r = 0; r < layer.hidden; ++r) {
            for (int c = 0; c < layer.inputs; ++c) gate.W(r, c) = W(block + r, c);
            for (int c = 0; c < layer.hidden; ++c) gate.U(r, c) = U(block + r, c);
            gate.W(r, layer.inputs) = bias(block + r);
        }
    });
}

void store_gradients(Layer& layer, const std::string& folder, const std::string& k) {
    const std::size_t H = layer.hidden, I = layer.inputs;
    Array<float> dW({4 * H, I}), dU({4 * H, H}), dbias({4 * H});
    for_each_gate(layer, [&](Gate& gate, int block) {
        for (int r = 0; r < layer.hidden; ++r) {
            for (int c = 0; c < layer.inputs; ++c) dW(block + r, c) = gate.dW(r, c);
            for (int c = 0; c < layer.hidden; ++c) dU(block + r, c) = gate.dU(r, c);
            dbias(block + r) = gate.dW(r, layer.inputs);
        }
    });
    manual_lstm::write(folder, "dweight_ih_l" + k, dW);
    manual_lstm::write(folder, "dweight_hh_l" + k, dU);
    manual_lstm::write(folder, "dbias_l" + k, dbias);
}

void load_output_layer(Network& network, const std::string& folder) {
    const auto weight = manual_lstm::read(folder, "weight_out");
    const auto bias = manual_lstm::read(folder, "bias_out");
    for (int r = 0; r < network.V.rows; ++r) {
        for (int c = 0; c + 1 < network.V.columns; ++c) network.V(r, c) = weight(r, c);
        network.V(r, network.V.columns - 1) = bias(r);
    }
}

void store_output_gradients(const Network& network, const std::string& folder) {
    const std::size_t V = network.V.rows, H = network.V.columns - 1;
    Array<float> dweight({V, H}), dbias({V});
    for (std::size_t r = 0; r < V; ++r) {
        for (std::size_t c = 0; c < H; ++c) dweight(r, c) = network.dV(int(r), int(c));
        dbias(r) = network.dV(int(r), int(H));
    }
    manual_lstm::write(folder, "dweight_out", dweight);
    manual_lstm::write(folder, "dbias_out", dbias);
}

Vector row(const Array<float>& array, std::size_t i, std::size_t j) {
    Vector v(array.shape[2]);
    for (std::size_t k = 0; k < v.size(); ++k) v[k] = array(i, j, k);
    return v;
}

void set_row(Array<float>& array, std::size_t i, std::size_t j, const Vector& v) {
    for (std::size_t k = 0; k < v.size(); ++k) array(i, j, k) = v[k];
}

void run(const std::string& in, const std::string& out, Mistake mistake) {
    manual_lstm::check_case(in);
    const auto x = manual_lstm::read(in, "x"), h0 = manual_lstm::read(in, "h0");
    const auto c0 = manual_lstm::read(in, "c0"), dh_n = manual_lstm::read(in, "dh_n");
    const auto dc_n = manual_lstm::read(in, "dc_n");
    const bool loss_inside = manual_lstm::has(in, "targets");
    Array<int> targets;
    Array<double> dloss;
    Array<float> dy, loss, y;
    if (loss_inside) {
        targets = manual_lstm::read<int>(in, "targets");
        dloss = manual_lstm::read<double>(in, "dloss");
    } else {
        dy = manual_lstm::read(in, "dy");
        y = Array<float>(dy.shape);
    }
    const std::size_t T = x.shape[0], B = x.shape[1], I = x.shape[2];
    const std::size_t L = h0.shape[0], H = h0.shape[2];

    const bool output_layer = manual_lstm::has(in, "weight_out");
    const std::size_t V = output_layer ? manual_lstm::read(in, "bias_out").shape[0] : H;
    Network network(int(I), int(H), int(L), int(V), output_layer);
    for (std::size_t k = 0; k < L; ++k) load(network.layers[k], in, std::to_string(k));
    if (output_layer) load_output_layer(network, in);

    manual_lstm::begin_result(out);
    Array<float> h_n(h0.shape), c_n(h0.shape), dx(x.shape), dh0(h0.shape), dc0(h0.shape);
    for (std::size_t b = 0; b < B; ++b) {
        std::vector<Vector> xs, from_above, dh, dc, dxs;
        std::vector<int> wanted;
        for (std::size_t t = 0; t < T; ++t) {
            xs.push_back(row(x, t, b));
            if (loss_inside) wanted.push_back(targets(t, b));
            else from_above.push_back(row(dy, t, b));
        }
        for (std::size_t k = 0; k < L; ++k) {
            network.layers[k].h = row(h0, k, b);
            network.layers[k].c = row(c0, k, b);
            dh.push_back(row(dh_n, k, b));
            dc.push_back(row(dc_n, k, b));
        }
        if (loss_inside) {
            loss() += network.forward(xs, wanted, mistake) / float(B);
            const float scale = float(dloss() / double(T * B));
            dxs = network.backward(wanted, scale, dh, dc, mistake);
        } else {
            const std::vector<Vector> hs = network.forward_layers(xs, mistake);
            for (std::size_t t = 0; t < T; ++t) set_row(y, t, b, hs[t]);
            dxs = network.backward_layers(from_above, dh, dc, mistake);
        }
        for (std::size_t t = 0; t < T; ++t) set_row(dx, t, b, dxs[t]);
        for (std::size_t k = 0; k < L; ++k) {
            set_row(h_n, k, b, network.layers[k].h);
            set_row(c_n, k, b, network.layers[k].c);
            set_row(dh0, k, b, dh[k]);
            set_row(dc0, k, b, dc[k]);
        }
    }

    for (std::size_t k = 0; k < L; ++k) store_gradients(network.layers[k], out, std::to_string(k));
    if (output_layer) store_output_gradients(network, out);
    if (loss_inside) manual_lstm::write(out, "loss", loss);
    else manual_lstm::write(out, "y", y);
    manual_lstm::write(out, "h_n", h_n);
    manual_lstm::write(out, "c_n", c_n);
    manual_lstm::write(out, "dx", dx);
    manual_lstm::write(out, "dh0", dh0);
    manual_lstm::write(out, "dc0", dc0);
    manual_lstm::finish_result(out);
}

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    const bool planted = words.size() == 4 && words[2] == "--mistake";
    if (words.size() != 2 && !planted) {
        std::fprintf(stderr, "usage: my_lstm CASE RESULT [--mistake NAME]\n");
        return 2;
    }
    try {
        run(words[0], words[1], planted ? mistake_named(words[3]) : Mistake::none);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "my_lstm: %s\n", error.what());
        return 1;
    }
}
