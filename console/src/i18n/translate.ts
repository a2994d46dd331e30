// One text for a key, with its parameters filled in.

import type { Language } from '../api/types';
import { en } from './en';
import { zh } from './zh';

export type Key = keyof typeof en;
export type Params = Record<string, string | number>;

const texts: Record<Language, Record<Key, string>> = { en, zh };

export function translate(language: Language, key: Key, params: Params = {}): string {
  const text = texts[language][key] ?? en[key] ?? key;
  return text.replaceAll(/\{(\w+)\}/g, (whole, name: string) => String(params[name] ?? whole));
}

export const isKey = (key: string): key is Key => key in en;

/** As the browser wants it, unless another choice is kept. */
export function preferred(kept: string | null, wanted: readonly string[]): Language {
  if (kept === 'zh' || kept === 'en') return kept;
  const first = wanted.find((tag) => /^(zh|en)\b/i.test(tag));
  return first?.toLowerCase().startsWith('zh') ? 'zh' : 'en';
}
