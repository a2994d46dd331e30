// After vite: a .br beside every file worth it, and what a first visit loads.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants } from 'node:zlib';

const dist = new URL('../../target/console/', import.meta.url).pathname;
const LIMIT = 600_000;

const files = readdirSync(dist, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => join(entry.parentPath ?? entry.path, entry.name));
const sizes = new Map();
for (const file of files) {
  const plain = readFileSync(file);
  const options = {
    params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: plain.length },
  };
  const small = brotliCompressSync(plain, options);
  const worth = plain.length > 1024 && small.length < plain.length * 0.9;
  if (worth) writeFileSync(`${file}.br`, small);
  sizes.set(file.slice(dist.length), worth ? small.length : plain.length);
}

// The page, and all that is imported at once (not by import()) from what it names.
const first = new Set(['index.html']);
const open = [readFileSync(join(dist, 'index.html'), 'utf8')];
for (let round = 0; open.length > 0 && round < 1000; round += 1) {
  const text = open.pop();
  for (const [name] of sizes) {
    const base = name.split('/').pop();
    const named =
      text.includes(`from"./${base}"`) || text.includes(`import"./${base}"`) || text.includes(`"./${name}"`);
    if (!first.has(name) && named) {
      first.add(name);
      if (name.endsWith('.js')) open.push(readFileSync(join(dist, name), 'utf8'));
    }
  }
}
const sum = (names) => [...names].reduce((total, name) => total + (sizes.get(name) ?? 0), 0);
const kilobytes = (bytes) => `${(bytes / 1000).toFixed(1)} kB`;
console.log(`first load ${kilobytes(sum(first))} compressed (${[...first].join(', ')})`);
console.log(`all files  ${kilobytes(sum(sizes.keys()))} compressed`);
if (sum(first) > LIMIT) {
  console.error(`the first load is above ${kilobytes(LIMIT)}: import less, or later`);
  process.exit(1);
}
