// Reads a case and writes a result for `manual-lstm check --command "node my_lstm.js {case} {result}"`,
// or with `--head none` for an LSTM that has no softmax and loss inside.
//
// Node.js, no package. Whatever is wrong with a file is thrown as an Error.
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
"use strict";
const fs = require("fs");
const path = require("path");

const KINDS = { "<f4": Float32Array, "<f8": Float64Array, "<i8": BigInt64Array };
const DESCRIPTIONS = { float32: "<f4", float64: "<f8" };

const count = (shape) => shape.reduce((product, size) => product * size, 1);

/** An array of zeros: its shape, and its elements as numbers, row by row. */
const zeros = (shape) => ({ shape, data: new Array(count(shape)).fill(0) });

function readArray(file) {
  const bytes = fs.readFileSync(file);
  const start = 10 + bytes.readUInt16LE(8);
  const header = bytes.toString("latin1", 10, start);
  const found = /'descr': '(.*?)'.*'fortran_order': (\w+).*'shape': \((.*?)\)/.exec(header);
  if (bytes.toString("latin1", 1, 6) !== "NUMPY" || bytes[6] !== 1 || !found) {
    throw new Error(`${file} is not a .npy file of version 1`);
  }
  const [, description, fortran, sizes] = found;
  const Kind = KINDS[description];
  if (!Kind || fortran !== "False") {
    throw new Error(`${file} must be little-endian float32, float64 or int64, row by row`);
  }
  const shape = sizes.split(",").filter((size) => size.trim()).map(Number);
  const elements = bytes.subarray(start);
  if (elements.length !== count(shape) * Kind.BYTES_PER_ELEMENT) {
    throw new Error(`${file} has ${elements.length} bytes of elements, not those of (${shape})`);
  }
  return { shape, data: Array.from(new Kind(Uint8Array.from(elements).buffer), Number) };
}

/** A case: { sizes: { T, B, I, H, L }, dtype, head, arrays: { x: { shape, data }, ... } }. */
function readCase(folder) {
  const { format, version, sizes, dtype, head } = JSON.parse(
    fs.readFileSync(path.join(folder, "case.json"), "utf8"),
  );
  if (format !== "manual-lstm-case" || version !== 1) {
    throw new Error(`${folder} is no case of version 1: write the client anew`);
  }
  const arrays = {};
  for (const file of fs.readdirSync(folder).filter((name) => name.endsWith(".npy"))) {
    arrays[file.slice(0, -4)] = readArray(path.join(folder, file));
  }
  return { sizes, dtype, head, arrays };
}

/** What a result has, by name, all of it zero. */
function blankResult({ sizes: { T, B, H }, arrays }) {
  const result = arrays.targets ? { loss: zeros([]) } : { y: zeros([T, B, H]) };
  for (const [name, { shape }] of Object.entries(arrays)) {
    if (name === "dh_n" || name === "dc_n") result[name.slice(1)] = zeros(shape);
    else if (/^(weight|bias|x$|h0$|c0$)/.test(name)) result[`d${name}`] = zeros(shape);
  }
  return result;
}

/** Writes { name: { shape, data } } as the result of a case, in the case's dtype. */
function writeResult(folder, { dtype }, result) {
  const description = DESCRIPTIONS[dtype];
  for (const [name, { shape, data }] of Object.entries(result)) {
    if (data.length !== count(shape)) {
      throw new Error(`${name} has ${data.length} elements, not those of (${shape})`);
    }
    const tuple = shape.map((size) => `${size},`).join("");
    const fields = `{'descr': '${description}', 'fortran_order': False, 'shape': (${tuple}), }`;
    const header = Buffer.from(`${fields.padEnd(117)}\n`, "latin1");
    const front = Buffer.from([0x93, ...Buffer.from("NUMPY"), 1, 0, header.length, 0]);
    const elements = Buffer.from(KINDS[description].from(data).buffer);
    fs.writeFileSync(path.join(folder, `${name}.npy`), Buffer.concat([front, header, elements]));
  }
  const written = JSON.stringify({ format: "manual-lstm-result", version: 1 });
  fs.writeFileSync(path.join(folder, "result.json"), written);
}

module.exports = { readCase, blankResult, writeResult, zeros };
