// Reads a case and writes a result for `manual-lstm check --command "./my_lstm {case} {result}"`,
// or with `--head none` for an LSTM that has no softmax and loss inside.
//
// One file, Rust 2021, no crate. Whatever is wrong with a file is an Err with a sentence.
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

use std::fs;
use std::ops::{Index, IndexMut};
use std::path::Path;

pub type Outcome<T> = Result<T, String>;

// What an array may be read as: f32, f64, or usize for classes.
pub trait Number: Copy {
    fn of(value: f64) -> Self;
}

// What an array may be written as.
pub trait Float: Number {
    const TYPE: &'static str;
    fn bytes(self) -> Vec<u8>;
}

impl Number for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
}

impl Number for f64 {
    fn of(value: f64) -> Self {
        value
    }
}

impl Number for usize {
    fn of(value: f64) -> Self {
        value as usize
    }
}

impl Float for f32 {
    const TYPE: &'static str = "<f4";
    fn bytes(self) -> Vec<u8> {
        self.to_le_bytes().to_vec()
    }
}

impl Float for f64 {
    const TYPE: &'static str = "<f8";
    fn bytes(self) -> Vec<u8> {
        self.to_le_bytes().to_vec()
    }
}

// array[[i]], array[[t, b, j]], ... as many indices as there are axes; array[[]] for a scalar.
#[derive(Clone, Debug)]
pub struct Array<N> {
    pub shape: Vec<usize>,
    pub data: Vec<N>,
}

impl<N: Number> Array<N> {
    pub fn zeros(shape: &[usize]) -> Self {
        let count = shape.iter().product();
        Array { shape: shape.to_vec(), data: vec![N::of(0.0); count] }
    }
}

impl<N> Array<N> {
    fn place(&self, indices: &[usize]) -> usize {
        assert_eq!(indices.len(), self.shape.len(), "wrong number of indices");
        let mut place = 0;
        for (&index, &size) in indices.iter().zip(&self.shape) {
            assert!(index < size, "index {index} is out of range: the axis has {size}");
            place = place * size + index;
        }
        place
    }
}

impl<N, const AXES: usize> Index<[usize; AXES]> for Array<N> {
    type Output = N;
    fn index(&self, indices: [usize; AXES]) -> &N {
        &self.data[self.place(&indices)]
    }
}

impl<N, const AXES: usize> IndexMut<[usize; AXES]> for Array<N> {
    fn index_mut(&mut self, indices: [usize; AXES]) -> &mut N {
        let place = self.place(&indices);
        &mut self.data[place]
    }
}

pub fn has(folder: &str, name: &str) -> bool {
    Path::new(&format!("{folder}/{name}.npy")).exists()
}

// The array `name` of a case, its numbers converted to N.
pub fn read<N: Number>(folder: &str, name: &str) -> Outcome<Array<N>> {
    let path = format!("{folder}/{name}.npy");
    let bytes = fs::read(&path).map_err(|error| format!("{path} cannot be read: {error}"))?;
    if bytes.len() < 10 || &bytes[..7] != b"\x93NUMPY\x01" {
        return Err(format!("{path} is not .npy of version 1"));
    }
    let begin = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = bytes.get(10..begin).ok_or(format!("{path} ends within its header"))?;
    let header = String::from_utf8_lossy(header).into_owned();
    let between = |before: &str, after: &str| -> Outcome<String> {
        let rest = header.split_once(before).ok_or(format!("{path} lacks {before}"))?.1;
        Ok(rest.split_once(after).ok_or(format!("{path} lacks {after}"))?.0.to_string())
    };
    if between("'fortran_order': ", ",")? != "False" {
        return Err(format!("{path} is in Fortran order"));
    }
    let sizes = between("'shape': (", ")")?;
    let sizes = sizes.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape = sizes.map(|size| size.parse()).collect::<Result<Vec<usize>, _>>();
    let shape = shape.map_err(|error| format!("{path} has a size that is none: {error}"))?;
    let stored = &bytes[begin..];
    let (width, numbers): (usize, Vec<f64>) = match between("'descr': '", "'")?.as_str() {
        "<f4" => (4, converted(stored, |each| f64::from(f32::from_le_bytes(each)))),
        "<f8" => (8, converted(stored, f64::from_le_bytes)),
        "<i8" => (8, converted(stored, |each| i64::from_le_bytes(each) as f64)),
        other => return Err(format!("{path} has elements of type {other}")),
    };
    if stored.len() != width * shape.iter().product::<usize>() {
        return Err(format!("{path} has another size than its shape"));
    }
    Ok(Array { shape, data: numbers.into_iter().map(N::of).collect() })
}

fn converted<const WIDTH: usize>(stored: &[u8], number: impl Fn([u8; WIDTH]) -> f64) -> Vec<f64> {
    stored.chunks_exact(WIDTH).map(|each| number(each.try_into().unwrap())).collect()
}

// Before the first array of a result: its folder is made, and one that holds something is refused.
pub fn begin_result(folder: &str) -> Outcome<()> {
    let cannot = |error| format!("{folder} cannot be made: {error}");
    fs::create_dir_all(folder).map_err(cannot)?;
    if fs::read_dir(folder).map_err(cannot)?.next().is_some() {
        return Err(format!("{folder} exists already: choose another path or remove it"));
    }
    Ok(())
}

// The array `name` of a result, in the precision of F.
pub fn write<F: Float>(folder: &str, name: &str, array: &Array<F>) -> Outcome<()> {
    let path = format!("{folder}/{name}.npy");
    let shape: String = array.shape.iter().map(|size| format!("{size}, ")).collect();
    let mut header =
        format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({shape}), }}", F::TYPE);
    header.push_str(&" ".repeat(63 - (10 + header.len()) % 64));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(array.data.iter().flat_map(|number| number.bytes()));
    fs::write(&path, bytes).map_err(|error| format!("{path} cannot be written: {error}"))
}

// Before everything else: is this a case that this file can read? With a layout or a variant of
// your own leave it out.
pub fn check_case(folder: &str) -> Outcome<()> {
    let path = format!("{folder}/case.json");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let text: String = text.split_whitespace().collect();
    let parts = ["\"format\":\"manual-lstm-case\"", "\"version\":1,", "\"layout\":{}"];
    for part in parts.iter().chain(&["\"variant\":{}"]) {
        if !text.contains(part) {
            return Err(format!("{path} must have {part}"));
        }
    }
    Ok(())
}

// After everything else: the result is complete.
pub fn finish_result(folder: &str) -> Outcome<()> {
    let path = format!("{folder}/result.json");
    fs::write(&path, "{\"format\": \"manual-lstm-result\", \"version\": 1}\n")
        .map_err(|error| format!("{path} cannot be written: {error}"))
}
