#include "lstm.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>

namespace {

float sigmoid(float z) { return 1.0f / (1.0f + std::exp(-z)); }

// sum += M v
void add_product(const Matrix& m, const Vector& v, Vector& sum) {
    for (int r = 0; r < m.rows; ++r)
        for (int c = 0; c < m.columns; ++c) sum[r] += m(r, c) * v[c];
}

// sum += M^T v
void add_transposed_product(const Matrix& m, const Vector& v, Vector& sum) {
    for (int r = 0; r < m.rows; ++r)
        for (int c = 0; c < m.columns; ++c) sum[c] += m(r, c) * v[r];
}

// gradient += dz v^T
void add_outer(Matrix& gradient, const Vector& dz, const Vector& v, Mistake mistake) {
    for (int r = 0; r < gradient.rows; ++r)
        for (int c = 0; c < gradient.columns; ++c) {
            if (mistake == Mistake::overwritten_gradient) gradient(r, c) = 0;
            gradient(r, c) += dz[r] * v[c];
        }
}

Vector with_bias_neuron(Vector v) {
    v.push_back(1.0f);
    return v;
}

Vector softmax(const Vector& v) {
    Vector p = v;
    const float greatest = *std::max_element(v.begin(), v.end());
    float sum = 0;
    for (float& element : p) sum += element = std::exp(element - greatest);
    for (float& element : p) element /= sum;
    return p;
}

// -log of the target's probability, from the logits: finite where the probability rounds to 0.
float cross_entropy(const Vector& logits, int target) {
    const float greatest = *std::max_element(logits.begin(), logits.end());
    float sum = 0;
    for (float logit : logits) sum += std::exp(logit - greatest);
    return std::log(sum) - (logits[target] - greatest);
}

}  // namespace

Mistake mistake_named(const std::string& name) {
    static const std::map<std::string, Mistake> mistakes = {
        {"none", Mistake::none},
        {"target_minus_predicted", Mistake::target_minus_predicted},
        {"forget_uses_new_c", Mistake::forget_uses_new_c},
        {"no_cell_carry", Mistake::no_cell_carry},
        {"no_recurrent_h", Mistake::no_recurrent_h},
        {"cell_carry_too_early", Mistake::cell_carry_too_early},
        {"no_squash_slope", Mistake::no_squash_slope},
        {"overwritten_gradient", Mistake::overwritten_gradient},
        {"bias_leak", Mistake::bias_leak},
        {"state_not_kept", Mistake::state_not_kept},
        {"loss_not_averaged", Mistake::loss_not_averaged},
        {"dy_not_taken", Mistake::dy_not_taken},
        {"zero_skipped", Mistake::zero_skipped},
    };
    const auto found = mistakes.find(name);
    if (found == mistakes.end()) throw std::runtime_error("no mistake is called " + name);
    return found->second;
}

Gate::Gate(int inputs, int hidden)
    : W(hidden, inputs + 1), dW(hidden, inputs + 1), U(hidden, hidden), dU(hidden, hidden) {}

Vector Gate::net(const Vector& x, const Vector& h) const {
    Vector z(W.rows);
    add_product(W, x, z);
    add_product(U, h, z);
    return z;
}

Layer::Layer(int inputs_, int hidden_)
    : inputs(inputs_), hidden(hidden_), data(inputs_, hidden_), input(inputs_, hidden_),
      forget(inputs_, hidden_), output(inputs_, hidden_), h(hidden_), c(hidden_) {}

const Vector& Layer::forward(const Vector& x) {
    Step s;
    s.x = with_bias_neuron(x);
    s.h_before = h;
    s.c_before = c;
    s.data = data.net(s.x, h);
    s.input = input.net(s.x, h);
    s.forget = forget.net(s.x, h);
    s.output = output.net(s.x, h);
    s.tanh_c.resize(hidden);
    for (int k = 0; k < hidden; ++k) {
        s.data[k] = std::tanh(s.data[k]);
        s.input[k] = sigmoid(s.input[k]);
        s.forget[k] = sigmoid(s.forget[k]);
        s.output[k] = sigmoid(s.output[k]);
        c[k] = s.forget[k] * c[k] + s.input[k] * s.data[k];
        s.tanh_c[k] = std::tanh(c[k]);
        h[k] = s.output[k] * s.tanh_c[k];
    }
    s.c = c;
    s.h = h;
    steps.push_back(s);
    return h;
}

std::vector<Vector> Layer::backward(const std::vector<Vector>& from_above, Vector& dh, Vector& dc,
                                    Mistake mistake) {
    std::vector<Vector> to_below(steps.size());
    for (std::size_t t = steps.size(); t-- > 0;) {
        const Step& s = steps[t];
        Vector d_data(hidden), d_input(hidden), d_forget(hidden), d_output(hidden);
        for (int k = 0; k < hidden; ++k) {
            if (mistake == Mistake::no_recurrent_h) dh[k] = 0;
            if (mistake == Mistake::no_cell_carry) dc[k] = 0;
            const float dc_from_later = dc[k];

            dh[k] += from_above[t][k];
            float slope = 1 - s.tanh_c[k] * s.tanh_c[k];
            if (mistake == Mistake::no_squash_slope) slope = 1;
            dc[k] += dh[k] * s.output[k] * slope;

            const bool wrong_c = mistake == Mistake::forget_uses_new_c;
            const float c_before = wrong_c ? s.c[k] : s.c_before[k];
            d_output[k] = dh[k] * s.tanh_c[k] * s.output[k] * (1 - s.output[k]);
            d_input[k] = dc[k] * s.data[k] * s.input[k] * (1 - s.input[k]);
            d_forget[k] = dc[k] * c_before * s.forget[k] * (1 - s.forget[k]);
            d_data[k] = dc[k] * s.input[k] * (1 - s.data[k] * s.data[k]);

            if (mistake == Mistake::cell_carry_too_early) dc[k] = dc_from_later;
            dc[k] *= s.forget[k];
        }
        Vector dx(inputs + 1);
        dh.assign(hidden, 0.0f);
        auto through = [&](Gate& gate, const Vector& dz) {
            add_outer(gate.dW, dz, s.x, mistake);
            add_outer(gate.dU, dz, s.h_before, mistake);
            add_transposed_product(gate.W, dz, dx);
            add_transposed_product(gate.U, dz, dh);
        };
        through(data, d_data);
        through(input, d_input);
        through(forget, d_forget);
        through(output, d_output);
        if (mistake == Mistake::bias_leak) dx[inputs - 1] += dx[inputs];
        dx.pop_back();  // nothing feeds into the bias neuron: its gradient ends here
        to_below[t] = dx;
    }
    return to_below;
}

Network::Network(int inputs, int hidden, int num_layers, int classes, bool output_layer)
    : has_output_layer(output_layer), V(classes, hidden + 1), dV(classes, hidden + 1) {
    for (int k = 0; k < num_layers; ++k) layers.emplace_back(k == 0 ? inputs : hidden, hidden);
}

std::vector<Vector> Network::forward_layers(const std::vector<Vector>& xs, Mistake mistake) {
    for (Layer& layer : layers) {
        layer.steps.clear();
        if (mistake == Mistake::state_not_kept) {
            layer.h.assign(layer.h.size(), 0.0f);
            layer.c.assign(layer.c.size(), 0.0f);
        }
    }
    std::vector<Vector> hs = xs;
    for (Vector& v : hs)
        for (Layer& layer : layers) v = layer.forward(v);
    return hs;
}

std::vector<Vector> Network::backward_layers(std::vector<Vector> from_above,
                                             std::vector<Vector>& dh, std::vector<Vector>& dc,
                                             Mistake mistake) {
    if (mistake == Mistake::dy_not_taken)
        for (Vector& dy : from_above) std::fill(dy.begin(), dy.end(), 0.0f);
    for (std::size_t k = layers.size(); k-- > 0;)
        from_above = layers[k].backward(from_above, dh[k], dc[k], mistake);
    return from_above;
}

float Network::forward(const std::vector<Vector>& xs, const std::vector<int>& targets,
                       Mistake mistake) {
    outputs.clear();
    const std::vector<Vector> hs = forward_layers(xs, mistake);
    float error = 0;
    for (std::size_t t = 0; t < xs.size(); ++t) {
        Vector v = hs[t];
        if (has_output_layer) {
            Vector logits(V.rows);
            add_product(V, with_bias_neuron(v), logits);
            v = logits;
        }
        outputs.push_back(softmax(v));
        const bool skipped = mistake == Mistake::zero_skipped && outputs[t][targets[t]] == 0;
        if (!skipped) error += cross_entropy(v, targets[t]);
    }
    return mistake == Mistake::loss_not_averaged ? error : error / float(xs.size());
}

std::vector<Vector> Network::backward(const std::vector<int>& targets, float scale,
                                      std::vector<Vector>& dh, std::vector<Vector>& dc,
                                      Mistake mistake) {
    std::vector<Vector> from_above(outputs.size());
    for (std::size_t t = 0; t < outputs.size(); ++t) {
        Vector d = outputs[t];
        d[targets[t]] -= 1;  // predicted - target
        const float sign = mistake == Mistake::target_minus_predicted ? -1.0f : 1.0f;
        for (float& element : d) element *= sign * scale;
        if (has_output_layer) {
            Vector dx(V.columns);
            add_outer(dV, d, with_bias_neuron(layers.back().steps[t].h), mistake);
            add_transposed_product(V, d, dx);
            dx.pop_back();
            d = dx;
        }
        from_above[t] = d;
    }
    return backward_layers(from_above, dh, dc, mistake);
}
