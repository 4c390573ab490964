/* Rotations as 3×3 matrices (rows), and the view in which a molecule is seen best. */

const apply = (matrix, v) => matrix.map((row) => row[0] * v[0] + row[1] * v[1] + row[2] * v[2]);
const transpose = (matrix) => matrix[0].map((_, column) => matrix.map((row) => row[column]));
const product = (a, b) => transpose(transpose(b).map((column) => apply(a, column)));

function rotationX(angle) {
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  return [[1, 0, 0], [0, c, -s], [0, s, c]];
}

function rotationY(angle) {
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  return [[c, 0, s], [0, 1, 0], [-s, 0, c]];
}

/* The rotation that lays the longest extent across, the shortest along the line of sight: the principal
   axes of Σ x xᵀ, by Jacobi's rotations of pairs of axes. */
function flatten(positions) {
  const spread = [0, 1, 2].map((i) => [0, 1, 2].map((j) => positions.reduce((sum, x) => sum + x[i] * x[j], 0)));
  let matrix = spread;
  let axes = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
  for (let sweep = 0; sweep < 12; sweep += 1) {
    for (const [i, j] of [[0, 1], [0, 2], [1, 2]]) {
      const angle = 0.5 * Math.atan2(2 * matrix[i][j], matrix[i][i] - matrix[j][j]);
      const turn = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
      turn[i][i] = turn[j][j] = Math.cos(angle);
      turn[i][j] = Math.sin(angle);
      turn[j][i] = -turn[i][j];
      matrix = product(product(turn, matrix), transpose(turn));
      axes = product(turn, axes);
    }
  }
  const order = [0, 1, 2].sort((i, j) => matrix[j][j] - matrix[i][i]);
  const [first, second] = [axes[order[0]], axes[order[1]]];
  const third = [0, 1, 2].map((k) => first[(k + 1) % 3] * second[(k + 2) % 3] - first[(k + 2) % 3] * second[(k + 1) % 3]);
  return [first, second, third];
}
