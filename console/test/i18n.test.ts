import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { group, resource, node, cluster, mirror, config } from '../src/api/actions';
import { en } from '../src/i18n/en';
import { isKey, preferred, translate } from '../src/i18n/translate';
import { zh } from '../src/i18n/zh';
import { stateKey, tones } from '../src/words/states';

const params = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((hit) => hit[1]).sort();

describe('texts', () => {
  it('have the same keys in both languages, in the same order', () => {
    expect(Object.keys(zh)).toEqual(Object.keys(en));
  });

  it('take the same parameters in both languages', () => {
    for (const [key, text] of Object.entries(en)) expect(params(zh[key as keyof typeof en]), key).toEqual(params(text));
  });

  it('are Chinese in zh.ts, but for names', () => {
    const kept = ['app.name', 'problem.other', 'group.explain.step', 'mirrors.rate'];
    for (const [key, text] of Object.entries(zh)) {
      if (!kept.includes(key)) expect(text, key).toMatch(/\p{Script=Han}/u);
    }
  });

  it('name and explain every state that has a colour', () => {
    for (const [kind, states] of Object.entries(tones)) {
      for (const state of Object.keys(states)) {
        expect(isKey(`state.${kind}.${stateKey(state)}`), `${kind} ${state}`).toBe(true);
        expect(isKey(`state.${kind}.${stateKey(state)}.means`), `${kind} ${state}`).toBe(true);
      }
    }
  });

  it('name, title and explain every action', () => {
    const actions = [
      group.start('g'), group.stop('g'), group.switchTo('g'), group.enable('g'), group.disable('g'), group.clear('g'),
      group.maintenance('g', true), group.maintenance('g', false), resource.start('g', 'r'), resource.stop('g', 'r'),
      resource.restart('g', 'r'), resource.maintenance('g', 'r', true), resource.maintenance('g', 'r', false), node.drain('n'),
      node.undrain('n'), node.clear('n'), node.down('n'), node.fence('n'), node.maintenance('n', true), node.maintenance('n', false),
      cluster.disarm(), cluster.arm(), cluster.startAll(), cluster.stopAll('c'), mirror.pause('g', 'm'), mirror.resume('g', 'm'),
      mirror.verify('g', 'm'), config.rollback(1),
    ];
    for (const { id } of actions) {
      for (const key of [`action.${id}`, `action.${id}.title`, `action.${id}.means`]) expect(isKey(key), key).toBe(true);
    }
  });

  it('are all used', () => {
    const source = sources(join(import.meta.dirname, '../src')).join('\n');
    const made = /^(state|action|kind|mirrors\.mode|problem|role|attention\.(error|warning|note)$)/;
    const unused = Object.keys(en).filter((key) => !made.test(key) && !source.includes(`'${key}'`));
    expect(unused).toEqual([]);
  });

  it('use the words of the glossary', () => {
    expect(zh['state.group.stopped']).toBe('已停止');
    expect(zh['state.group.running']).toBe('运行中');
    expect(zh['state.group.degraded']).toBe('降级');
    expect(zh['state.group.failed']).toBe('运行错误');
    expect(zh['state.group.cannot_run']).toBe('不能运行');
    expect(zh['state.group.maintenance']).toBe('维护');
    expect(zh['state.role.unfit']).toBe('无法启动');
    expect([zh['state.role.active'], zh['state.role.standby'], zh['state.role.unknown']]).toEqual(['主', '备', '未知']);
  });
});

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sources(path);
    return /i18n\/(en|zh)\.ts$/.test(path) ? [] : [readFileSync(path, 'utf8')];
  });
}

describe('translate', () => {
  it('fills in parameters, also the same one twice, and leaves unknown ones to be seen', () => {
    expect(translate('en', 'header.node', { node: 'node1' })).toBe('connected to node1');
    expect(translate('zh', 'header.node', {})).toBe('已连接到 {node}');
  });

  it('takes the kept language, then the browser’s first known one, then English', () => {
    expect(preferred('zh', ['en-GB'])).toBe('zh');
    expect(preferred(null, ['fr-FR', 'zh-CN', 'en'])).toBe('zh');
    expect(preferred('klingon', ['en-US', 'zh'])).toBe('en');
    expect(preferred(null, [])).toBe('en');
  });
});
