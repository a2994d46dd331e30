import { describe, expect, it } from 'vitest';
import type { EventView, MirrorView, StatusView } from '../src/api/types';
import { parts } from '../src/state/route';
import { bytes, duration, milliseconds, percent } from '../src/words/amounts';
import { attention } from '../src/words/attention';
import { csv, everything, passes } from '../src/words/export';
import { pieces } from '../src/words/toml';
import { told, World } from '../mock/world.mjs';

const scene = (name: string): { status: StatusView; mirrors: MirrorView[] } => {
  const world = new World(name);
  return { status: told(world.status(), 'en'), mirrors: told(world.mirrors, 'en') };
};
const keys = (name: string, change: (status: StatusView) => void = () => undefined) => {
  const { status, mirrors } = scene(name);
  change(status);
  return attention(status, mirrors).map((item) => item.key);
};

describe('what needs attention', () => {
  it('is nothing when all is well', () => {
    expect(keys('well')).toEqual([]);
  });

  it('is told worst first', () => {
    const { status, mirrors } = scene('trouble');
    const found = attention(status, mirrors).map((item) => item.severity);
    expect(found).toEqual(['error', 'warning', 'note'].flatMap((one) => found.filter((other) => other === one)));
    expect(keys('trouble')[0]).toBe('attention.groupFailed');
  });

  it('names every trouble', () => {
    expect(new Set(keys('trouble'))).toEqual(
      new Set([
        'attention.groupFailed', 'attention.groupDegraded', 'attention.witness', 'attention.linkDown', 'attention.linkLossy',
        'attention.heldOut', 'attention.noStandby', 'attention.mirror',
      ]),
    );
  });

  it.each<[string, (status: StatusView) => void]>([
    ['attention.noLeader', (status) => { status.leader = null; }],
    ['attention.noLease', (status) => { status.lease = false; }],
    ['attention.disarmed', (status) => { status.disarmed = true; }],
    ['attention.bestEffort', (status) => { status.cluster.guarantee = 'best-effort'; }],
    ['attention.nodeDown', (status) => { status.nodes[1]!.state = 'down'; }],
    ['attention.nodeSilent', (status) => { status.nodes[1]!.state = 'silent'; }],
    ['attention.nodeGone', (status) => { status.nodes[1]!.state = 'left'; }],
    ['attention.fencing', (status) => { status.nodes[1]!.fencing = 'being fenced'; }],
    ['attention.groupTwice', (status) => { status.groups[0]!.active_on = ['node1', 'node2']; }],
    ['attention.groupCannot', (status) => { status.groups[0]!.state = 'cannot run'; }],
    ['attention.groupUnknown', (status) => { status.groups[0]!.state = 'unknown'; }],
    ['attention.groupPinned', (status) => { status.groups[0]!.pinned = 'pinned'; }],
    ['attention.runsUnasked', (status) => { status.groups[0]!.resources[0]!.state = 'runs unasked'; }],
  ])('tells %s', (key, change) => {
    expect(keys('well', change)).toContain(key);
  });
});

describe('words', () => {
  it('tell amounts as the command line does', () => {
    expect([bytes(20 * 2 ** 30), bytes(1_572_864), bytes(12), bytes(0)]).toEqual(['20 GiB', '1.5 MiB', '12 B', '0 B']);
    expect([milliseconds(934), milliseconds(25_400)]).toEqual(['0.93 ms', '25 ms']);
    expect([duration(45), duration(-3), duration(725), duration(12_000)]).toEqual(['45 s', '0 s', '12 min', '3 h 20 min']);
    expect([percent(1, 3), percent(5, 0), percent(9, 3)]).toEqual([33.3, 100, 100]);
  });

  it('colour a configuration without losing a character', () => {
    const text = '[cluster] # it\nname = "a # b"\nn = 3 # c\n[[node]]\nlist = ["x", \'y\']\nbroken = "\n\u{1F600}';
    const found = pieces(text);
    expect(found.map((piece) => piece.text).join('')).toBe(text);
    const of = (kind: string) => found.filter((piece) => piece.kind === kind).map((piece) => piece.text);
    expect(of('table')).toEqual(['[cluster]', '[[node]]']);
    expect(of('comment')).toEqual(['# it', '# c']);
    expect(of('text')).toEqual(['"a # b"', '"x"', "'y'"]);
    expect(of('key')).toEqual(['name', 'n', 'list', 'broken']);
    expect(of('number')).toEqual(['3']);
  });

  it('read addresses of pages, broken ones too', () => {
    expect(parts('#/groups/a%20b')).toEqual(['groups', 'a b']);
    expect(parts('#/groups/%E0%A4%A')).toEqual(['groups', '%E0%A4%A']);
    expect(parts('')).toEqual([]);
  });
});

describe('events', () => {
  const event: EventView = { number: 1, time: 't', level: 'error', by: 'node1', node: 'node2', group: 'shop', text: 'Web, "failed"' };
  it('are filtered by everything at once', () => {
    expect(passes(event, everything)).toBe(true);
    expect(passes(event, { level: 'error', node: 'node2', group: 'shop', text: ' FAILED ' })).toBe(true);
    expect(passes(event, { ...everything, node: 'node1' })).toBe(true);
    expect(passes(event, { ...everything, node: 'node3' })).toBe(false);
    expect(passes(event, { ...everything, level: 'message' })).toBe(false);
    expect(passes(event, { ...everything, group: 'mail' })).toBe(false);
    expect(passes(event, { ...everything, text: 'x' })).toBe(false);
  });

  it('become a table that no spreadsheet takes for formulas', () => {
    const text = csv([event, { ...event, number: 2, group: null, text: '=cmd()' }]);
    expect(text).toBe(
      '\uFEFFnumber,time,level,by,node,group,text\r\n1,t,error,node1,node2,shop,"Web, ""failed"""\r\n2,t,error,node1,node2,,\'=cmd()\r\n',
    );
  });
});
