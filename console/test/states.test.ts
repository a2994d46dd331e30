import { describe, expect, it } from 'vitest';
import { signs, stateKey, tone, tones } from '../src/words/states';

describe('colours of states', () => {
  it('are those promised: active green, standby blue, unfit grey, failed red', () => {
    expect(tone('role', 'active')).toBe('good');
    expect(tone('role', 'standby')).toBe('standby');
    expect(tone('role', 'unfit')).toBe('unfit');
    expect(tone('group', 'failed')).toBe('bad');
    expect(tone('group', 'cannot run')).toBe('bad');
    expect(tone('group', 'running')).toBe('good');
    expect(tone('copy', 'split-brain')).toBe('bad');
  });

  it('never make an unknown state look well', () => {
    for (const kind of Object.keys(tones) as (keyof typeof tones)[]) {
      expect(['good', 'standby']).not.toContain(tone(kind, 'something new'));
    }
    expect(tone('group', 'unknown')).toBe('warn');
  });

  it('come with different signs, for those who do not see them', () => {
    expect(new Set(Object.values(signs)).size).toBe(Object.keys(signs).length);
  });

  it('have keys without blanks and hyphens', () => {
    expect(stateKey('cannot run')).toBe('cannot_run');
    expect(stateKey('split-brain')).toBe('split_brain');
  });
});
