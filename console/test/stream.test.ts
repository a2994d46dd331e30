import { describe, expect, it } from 'vitest';
import { Parser, read } from '../src/api/sse';
import type { EventView, StatusView } from '../src/api/types';
import { type ClusterState, isOld, KEPT, nothing, otherConsoles, reduce } from '../src/state/reduce';

const event = (number: number, more: Partial<EventView> = {}): EventView => ({
  number, time: `2026-11-26T02:00:${String(number % 60).padStart(2, '0')}Z`, level: 'message', by: 'node1', node: null, group: null, text: `${number}`, ...more,
});
const numbers = (state: ClusterState) => state.events.map((one) => one.number);

describe('the stream’s text', () => {
  it('is put together whatever the pieces', () => {
    const text = 'event: status\ndata: {"a":1}\n\n: still here\n\nevent: event\r\ndata: 1\r\ndata: 2\r\n\r\ndata:x\n\n';
    const whole = new Parser().push(text);
    for (let size = 1; size < 12; size += 1) {
      const parser = new Parser();
      const found = [];
      for (let at = 0; at < text.length; at += size) found.push(...parser.push(text.slice(at, at + size)));
      expect(found, `pieces of ${size}`).toEqual(whole);
    }
    expect(whole).toEqual([
      { event: 'status', data: '{"a":1}' },
      { event: 'event', data: '1\n2' },
      { event: 'message', data: 'x' },
    ]);
  });

  it('is given up when it is silent for too long', async () => {
    const silent = new ReadableStream<Uint8Array>({ start: (control) => control.enqueue(new TextEncoder().encode('data: 1\n\n')) });
    const seen: string[] = [];
    await expect(read(silent, 20, (message) => seen.push(message.data))).rejects.toThrow('silent');
    expect(seen).toEqual(['1']);
  });
});

describe('what is known', () => {
  it('keeps the events in order, each once', () => {
    let state = reduce(nothing, { kind: 'events', at: 1, data: [event(4), event(5)] });
    state = reduce(state, { kind: 'events', at: 2, data: [event(1), event(2), event(4)] });
    expect(numbers(state)).toEqual([1, 2, 4, 5]);
    expect(reduce(state, { kind: 'events', at: 3, data: [event(5)] }).events).toBe(state.events);
  });

  it('keeps no more events than it may', () => {
    const many = Array.from({ length: KEPT + 10 }, (_, index) => event(index + 1, { time: `t${String(index).padStart(6, '0')}` }));
    const state = reduce(nothing, { kind: 'events', at: 1, data: many });
    expect(state.events.length).toBe(KEPT);
    expect(state.events.at(-1)?.number).toBe(KEPT + 10);
  });

  it('is old while the stream is broken or the daemon is down, and keeps showing what it was', () => {
    const status = { node: 'node1' } as StatusView;
    let state = reduce(nothing, { kind: 'opened', at: 1 });
    state = reduce(state, { kind: 'status', at: 2, data: status });
    expect(isOld(state)).toBe(false);
    state = reduce(state, { kind: 'broken', problem: 'gone' });
    expect([isOld(state), state.status, state.heard, state.problem]).toEqual([true, status, 2, 'gone']);
    state = reduce(state, { kind: 'opened', at: 9 });
    expect([isOld(state), state.problem]).toEqual([false, null]);
    state = reduce(state, { kind: 'daemon', at: 10, data: { running: false, problem: 'it ended' } });
    expect([isOld(state), state.heard]).toEqual([true, 9]);
    state = reduce(state, { kind: 'daemon', at: 11, data: { running: true, problem: null } });
    expect(isOld(state)).toBe(false);
  });

  it('names the consoles of the other nodes, also over IPv6', () => {
    const status = {
      node: 'node1',
      nodes: [
        { name: 'node1', links: [{ address: '10.0.0.1:14338' }] },
        { name: 'node2', links: [{ address: '10.0.0.2:14338' }, { address: '[fd00::2]:14338' }] },
      ],
    } as unknown as StatusView;
    expect(otherConsoles(status, '7700').map((one) => one.url)).toEqual(['https://10.0.0.2:7700/', 'https://[fd00::2]:7700/']);
    expect(otherConsoles(null, '7700')).toEqual([]);
  });
});
