// Pieces of a TOML text with what they are, for colouring. It colours wrong text wrongly and never fails.

export type Kind = 'table' | 'key' | 'text' | 'number' | 'comment' | 'plain';
export interface Piece {
  kind: Kind;
  text: string;
}

const RULES: [Kind, RegExp][] = [
  ['comment', /#[^\n]*/y],
  ['text', /"""[\s\S]*?"""|'''[\s\S]*?'''|"(?:\\.|[^"\\\n])*"|'[^'\n]*'/y],
  ['table', /(?<=^[ \t]*)\[\[?[^\]\n]*\]\]?(?=[ \t]*(?:#|$))/my],
  ['key', /[A-Za-z0-9_.-]+(?=[ \t]*=)/y],
  ['number', /(?<![A-Za-z0-9_])(?:true|false|[+-]?\d[\d_.:TZ+-]*)\b/y],
];

export function pieces(text: string): Piece[] {
  const found: Piece[] = [];
  let plain = '';
  for (let at = 0; at < text.length; ) {
    const piece = match(text, at);
    if (!piece) {
      plain += text[at];
      at += 1;
      continue;
    }
    if (plain) found.push({ kind: 'plain', text: plain });
    plain = '';
    found.push(piece);
    at += piece.text.length;
  }
  if (plain) found.push({ kind: 'plain', text: plain });
  return found;
}

function match(text: string, at: number): Piece | null {
  for (const [kind, rule] of RULES) {
    rule.lastIndex = at;
    const hit = rule.exec(text);
    if (hit && hit[0] !== '') return { kind, text: hit[0] };
  }
  return null;
}
