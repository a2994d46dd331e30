// Amounts for people, the same as on the command line.

const UNITS: [number, string][] = [
  [2 ** 40, 'TiB'],
  [2 ** 30, 'GiB'],
  [2 ** 20, 'MiB'],
  [2 ** 10, 'KiB'],
];

export function bytes(count: number): string {
  for (const [unit, name] of UNITS) {
    if (count >= unit) {
      const value = count / unit;
      return `${Number.isInteger(value) ? value : (Math.floor(value * 10) / 10).toFixed(1)} ${name}`;
    }
  }
  return `${count} B`;
}

/** Microseconds as milliseconds: `0.94 ms`. */
export function milliseconds(us: number): string {
  return `${(us / 1000).toFixed(us < 10_000 ? 2 : 0)} ms`;
}

/** Rough, units that both languages read: `45 s`, `12 min`, `3 h 20 min`. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.floor(whole / 60)} min`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

export function percent(done: number, total: number): number {
  if (total <= 0) return 100;
  return Math.max(0, Math.min(100, Math.floor((done / total) * 1000) / 10));
}
