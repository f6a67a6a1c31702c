// node lstm.js CASE RESULT: one layer of one sequence, given dy, in plain loops; loads the client
// from the folder in MANUAL_LSTM_CLIENT.
"use strict";
const path = require("path");
const client = require(path.join(process.env.MANUAL_LSTM_CLIENT, "manual_lstm.js"));

const sigmoid = (z) => 1 / (1 + Math.exp(-z));

function yourLstm({ sizes: { T, B, I, H, L }, arrays }, result) {
  if (B > 1 || L > 1) throw new Error("one layer, one sequence");
  const a = Object.fromEntries(Object.entries(arrays).map(([name, { data }]) => [name, data]));
  const r = Object.fromEntries(Object.entries(result).map(([name, { data }]) => [name, data]));
  const steps = [];
  let h = a.h0;
  let c = a.c0;
  for (let t = 0; t < T; t++) {
    const x = a.x.slice(t * I, (t + 1) * I);
    const z = a.bias_l0.map((bias, row) => {
      let sum = bias;
      for (let k = 0; k < I; k++) sum += a.weight_ih_l0[row * I + k] * x[k];
      for (let k = 0; k < H; k++) sum += a.weight_hh_l0[row * H + k] * h[k];
      return Math.floor(row / H) === 2 ? Math.tanh(sum) : sigmoid(sum);
    });
    const [i, f, g, o] = [0, 1, 2, 3].map((n) => z.slice(n * H, (n + 1) * H));
    const before = { h, c };
    c = c.map((state, j) => f[j] * state + i[j] * g[j]);
    h = c.map((state, j) => o[j] * Math.tanh(state));
    steps.push({ x, i, f, g, o, c, before });
    h.forEach((value, j) => (r.y[t * H + j] = value));
  }
  h.forEach((value, j) => (r.h_n[j] = value));
  c.forEach((value, j) => (r.c_n[j] = value));
  let dh = a.dh_n;
  let dc = a.dc_n;
  for (let t = T - 1; t >= 0; t--) {
    const { x, i, f, g, o, c: now, before } = steps[t];
    dh = dh.map((value, j) => value + a.dy[t * H + j]);
    dc = dc.map((value, j) => value + dh[j] * o[j] * (1 - Math.tanh(now[j]) ** 2));
    const dz = [
      dc.map((value, j) => value * g[j] * i[j] * (1 - i[j])),
      dc.map((value, j) => value * before.c[j] * f[j] * (1 - f[j])),
      dc.map((value, j) => value * i[j] * (1 - g[j] ** 2)),
      dh.map((value, j) => value * Math.tanh(now[j]) * o[j] * (1 - o[j])),
    ].flat();
    dc = dc.map((value, j) => value * f[j]);
    dh = new Array(H).fill(0);
    dz.forEach((value, row) => {
      r.dbias_l0[row] += value;
      for (let k = 0; k < I; k++) {
        r.dweight_ih_l0[row * I + k] += value * x[k];
        r.dx[t * I + k] += value * a.weight_ih_l0[row * I + k];
      }
      for (let k = 0; k < H; k++) {
        r.dweight_hh_l0[row * H + k] += value * before.h[k];
        dh[k] += value * a.weight_hh_l0[row * H + k];
      }
    });
  }
  dh.forEach((value, j) => (r.dh0[j] = value));
  dc.forEach((value, j) => (r.dc0[j] = value));
}

const [, , from, to] = process.argv;
const given = client.readCase(from);
const result = client.blankResult(given);
yourLstm(given, result);
client.writeResult(to, given, result);
