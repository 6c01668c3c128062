/** Numbers as people read them. Spaces inside them do not break. */

const SUPERSCRIPT = '⁰¹²³⁴⁵⁶⁷⁸⁹';

/** 0.8312 as "83.1 %"; `digits` after the point. */
export function percent(value: number, digits = 1): string {
  return Number.isFinite(value) ? `${(100 * value).toFixed(digits)}\u00a0%` : '–';
}

/** 1234567 as "1.23 M". */
export function count(value: number): string {
  const units: [number, string][] = [[1e9, 'G'], [1e6, 'M'], [1e3, 'k']];
  const found = units.find(([size]) => value >= size);
  if (!found) return String(Math.round(value));
  const scaled = value / found[0];
  return `${scaled >= 100 ? scaled.toFixed(0) : scaled.toPrecision(3)} ${found[1]}`;
}

/** 80300 as "78.4 KiB". */
export function bytes(value: number): string {
  if (value < 1024) return `${value} B`;
  const kibi = value / 1024;
  return kibi < 1024 ? `${kibi.toFixed(1)} KiB` : `${(kibi / 1024).toFixed(1)} MiB`;
}

/** 12345 as "12,345". */
export function whole(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** 3.8e-6 as "3.8 × 10⁻⁶"; ordinary numbers stay as they are. */
export function scientific(value: number, digits = 1): string {
  if (value === 0) return '0';
  if (!Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  if (size >= 0.01 && size < 1000) return String(Number(value.toPrecision(digits + 1)));
  const [mantissa = '0', exponent = '0'] = value.toExponential(digits).split('e');
  return `${mantissa}\u00a0×\u00a0${powerOfTen(Number(exponent))}`;
}

/** -6 as "10⁻⁶". */
export function powerOfTen(exponent: number): string {
  const digits = [...String(Math.abs(exponent))].map((digit) => SUPERSCRIPT[Number(digit)]).join('');
  return `10${exponent < 0 ? '⁻' : ''}${digits}`;
}

/** Milliseconds with three figures. */
export function milliseconds(value: number): string {
  return `${value >= 100 ? value.toFixed(0) : Number(value.toPrecision(3))} ms`;
}

/** How much smaller: 100 to 37 is "−63 %". */
export function change(before: number, after: number): string {
  if (before <= 0) return '';
  const share = Math.round((100 * (after - before)) / before);
  return share === 0 ? '±0 %' : `${share < 0 ? '−' : '+'}${Math.abs(share)}\u00a0%`;
}
