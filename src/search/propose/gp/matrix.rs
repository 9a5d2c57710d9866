//! Cholesky factors of small dense matrices, by rows.

/// The lower triangle L with L L^T = K, its rows one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Factor {
    rows: Vec<f64>,
    size: usize,
}

/// Where row `index` of a packed triangle begins.
const fn row(index: usize) -> usize {
    index * (index + 1) / 2
}

/// The inner product, in eight lanes: fast, and the same bits everywhere.
pub fn dot(left: &[f64], right: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (a, b) = (left.chunks_exact(8), right[..left.len()].chunks_exact(8));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a.zip(b) {
        for lane in 0..8 {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    let halves: [f64; 4] = std::array::from_fn(|lane| lanes[lane] + lanes[lane + 4]);
    (halves[0] + halves[2]) + (halves[1] + halves[3]) + rest
}

impl Factor {
    /// The factor of the matrix with the packed lower triangle `matrix`; `None` where it is not
    /// positive definite.
    pub fn of(matrix: Vec<f64>, size: usize) -> Option<Self> {
        let mut factor = Self { rows: matrix, size: 0 };
        for index in 0..size {
            factor.eliminate(index)?;
        }
        Some(factor)
    }

    /// Turns row `index` of the matrix into a row of the factor.
    fn eliminate(&mut self, index: usize) -> Option<()> {
        let (done, rest) = self.rows.split_at_mut(row(index));
        let own = &mut rest[..=index];
        for column in 0..index {
            let above = &done[row(column)..=row(column) + column];
            let (before, at) = own.split_at_mut(column);
            at[0] = (at[0] - dot(before, above)) / above[column];
        }
        let (before, diagonal) = own.split_at_mut(index);
        let left = diagonal[0] - dot(before, before);
        if left.is_nan() || left <= 0.0 {
            return None;
        }
        diagonal[0] = left.sqrt();
        self.size = index + 1;
        Some(())
    }

    /// Adds a row to the matrix: its covariances with the rows before, and its own variance.
    pub fn push(&mut self, covariances: &[f64], variance: f64) -> Option<()> {
        let index = self.size;
        self.rows.extend_from_slice(&covariances[..index]);
        self.rows.push(variance);
        let pushed = self.eliminate(index);
        if pushed.is_none() {
            self.rows.truncate(row(index));
        }
        pushed
    }

    fn row(&self, index: usize) -> &[f64] {
        &self.rows[row(index)..=row(index) + index]
    }

    /// `values` becomes the x with L x = values.
    pub fn forward(&self, values: &mut [f64]) {
        for index in 0..self.size {
            let own = self.row(index);
            values[index] = (values[index] - dot(&values[..index], own)) / own[index];
        }
    }

    /// `values` becomes the x with L^T x = values.
    pub fn backward(&self, values: &mut [f64]) {
        for index in (0..self.size).rev() {
            let own = self.row(index);
            values[index] /= own[index];
            let value = values[index];
            for (before, entry) in values[..index].iter_mut().zip(own) {
                *before -= entry * value;
            }
        }
    }

    /// The logarithm of the matrix's determinant.
    pub fn ln_determinant(&self) -> f64 {
        2.0 * (0..self.size).map(|index| self.row(index)[index].ln()).sum::<f64>()
    }

    /// The packed lower triangle of the matrix's inverse.
    pub fn inverse(&self) -> Vec<f64> {
        let columns: Vec<Vec<f64>> = (0..self.size).map(|column| self.column(column)).collect();
        let mut inverse = Vec::with_capacity(row(self.size));
        for (index, below) in columns.iter().enumerate() {
            for (column, other) in columns[..=index].iter().enumerate() {
                inverse.push(dot(below, &other[index - column..]));
            }
        }
        inverse
    }

    /// Column `column` of the inverse of L, from the diagonal down.
    fn column(&self, column: usize) -> Vec<f64> {
        let mut found = Vec::with_capacity(self.size - column);
        for index in column..self.size {
            let own = self.row(index);
            let unit = if index == column { 1.0 } else { 0.0 };
            let known = dot(&found, &own[column..index]);
            found.push((unit - known) / own[index]);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A covariance-like matrix of size `size`, packed.
    fn matrix(size: usize) -> Vec<f64> {
        let entry = |i: usize, j: usize| {
            let distance = (i as f64 - j as f64) / 3.0;
            (-distance * distance).exp() + if i == j { 0.1 } else { 0.0 }
        };
        (0..size).flat_map(|i| (0..=i).map(move |j| entry(i, j))).collect()
    }

    fn full(packed: &[f64], i: usize, j: usize) -> f64 {
        packed[row(i.max(j)) + i.min(j)]
    }

    #[test]
    fn the_inverse_times_the_matrix_is_one() {
        let size = 21;
        let (packed, factor) = (matrix(size), Factor::of(matrix(size), size).expect("definite"));
        let inverse = factor.inverse();
        for i in 0..size {
            for j in 0..size {
                let product: f64 =
                    (0..size).map(|k| full(&packed, i, k) * full(&inverse, k, j)).sum();
                assert!((product - f64::from(u8::from(i == j))).abs() < 1e-9, "{i} {j}");
            }
        }
    }

    #[test]
    fn solving_both_triangles_solves_the_matrix() {
        let size = 13;
        let (packed, factor) = (matrix(size), Factor::of(matrix(size), size).expect("definite"));
        let wanted: Vec<f64> = (0..size).map(|index| (index as f64).sin()).collect();
        let mut values: Vec<f64> =
            (0..size).map(|i| (0..size).map(|j| full(&packed, i, j) * wanted[j]).sum()).collect();
        factor.forward(&mut values);
        factor.backward(&mut values);
        for (found, wanted) in values.iter().zip(&wanted) {
            assert!((found - wanted).abs() < 1e-9);
        }
    }

    #[test]
    fn a_row_at_a_time_gives_the_same_factor() {
        let whole = Factor::of(matrix(9), 9).expect("definite");
        let mut grown = Factor::of(matrix(8), 8).expect("definite");
        let last = matrix(9)[row(8)..].to_vec();
        grown.push(&last[..8], last[8]).expect("definite");
        assert_eq!(grown, whole);
        assert!((whole.ln_determinant() - grown.ln_determinant()).abs() < 1e-15);
        assert_eq!(grown.push(&last, -1.0), None);
        assert_eq!(grown, whole, "a row that does not fit leaves no trace");
    }

    #[test]
    fn what_is_not_definite_is_refused() {
        assert_eq!(Factor::of(vec![1.0, 2.0, 1.0], 2), None);
        assert_eq!(Factor::of(vec![f64::NAN], 1), None);
    }
}
