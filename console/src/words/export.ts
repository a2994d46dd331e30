// Events as files, and which of them a filter lets through.

import type { EventView } from '../api/types';

export interface Filter {
  level: string;
  node: string;
  group: string;
  text: string;
}

export const everything: Filter = { level: '', node: '', group: '', text: '' };

export function passes(event: EventView, filter: Filter): boolean {
  const text = filter.text.trim().toLowerCase();
  return (
    (filter.level === '' || event.level === filter.level) &&
    (filter.node === '' || event.node === filter.node || event.by === filter.node) &&
    (filter.group === '' || event.group === filter.group) &&
    (text === '' || event.text.toLowerCase().includes(text))
  );
}

/** RFC 4180, with a mark so that spreadsheets take it for UTF-8; no cell can become a formula. */
export function csv(events: EventView[]): string {
  const cell = (value: string | number | null) => {
    const text = String(value ?? '');
    const safe = /^[=+@\t\r-]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const head = ['number', 'time', 'level', 'by', 'node', 'group', 'text'];
  const rows = events.map((event) => [event.number, event.time, event.level, event.by, event.node, event.group, event.text].map(cell));
  return `\uFEFF${[head, ...rows].map((row) => row.join(',')).join('\r\n')}\r\n`;
}

/** Offers a text as a file, without asking any server. */
export function download(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
