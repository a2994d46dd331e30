// Which colour and which sign a state has. F-GRP-18, F-OPS-03: active green, standby blue, unfit grey,
// failed red. The sign tells the same to those who do not see the colour.

export type Tone = 'good' | 'standby' | 'unfit' | 'bad' | 'warn' | 'busy' | 'hold';

export const signs: Record<Tone, string> = {
  good: '●',
  standby: '◐',
  unfit: '○',
  bad: '✕',
  warn: '▲',
  busy: '◌',
  hold: '‖',
};

const groups: Record<string, Tone> = {
  running: 'good',
  starting: 'busy',
  stopping: 'busy',
  degraded: 'warn',
  failed: 'bad',
  'cannot run': 'bad',
  stopped: 'unfit',
  maintenance: 'hold',
  unknown: 'warn',
};

const resources: Record<string, Tone> = {
  running: 'good',
  starting: 'busy',
  stopping: 'busy',
  failed: 'bad',
  'runs unasked': 'bad',
  stopped: 'unfit',
  maintenance: 'hold',
  unknown: 'unfit',
};

const roles: Record<string, Tone> = { active: 'good', standby: 'standby', unfit: 'unfit', unknown: 'unfit' };

const members: Record<string, Tone> = {
  online: 'good',
  silent: 'warn',
  down: 'bad',
  left: 'unfit',
  unknown: 'unfit',
};

const links: Record<string, Tone> = { up: 'good', own: 'good', warning: 'warn', down: 'bad', unknown: 'unfit' };

const copies: Record<string, Tone> = {
  'up to date': 'good',
  new: 'busy',
  outdated: 'warn',
  inconsistent: 'warn',
  lost: 'bad',
  'split-brain': 'bad',
  'given up': 'bad',
};

const levels: Record<string, Tone> = { message: 'unfit', warning: 'warn', error: 'bad', cleared: 'good' };

const guarantees: Record<string, Tone> = { 'single-active': 'good', 'best-effort': 'warn' };

export const tones = {
  group: groups,
  resource: resources,
  role: roles,
  member: members,
  link: links,
  copy: copies,
  level: levels,
  guarantee: guarantees,
} as const;

export type StateKind = keyof typeof tones;

/** A state this console does not know yet is shown as it is, and grey. */
export function tone(kind: StateKind, state: string): Tone {
  return tones[kind][state] ?? 'unfit';
}

/** The part of a key in the text files that stands for a state. */
export const stateKey = (state: string): string => state.replaceAll(/[ -]/g, '_');
