// What the console knows of the cluster, and how each message of the stream changes it. Pure.

import type { DaemonView, EventView, MirrorView, StatusView } from '../api/types';

export interface ClusterState {
  status: StatusView | null;
  mirrors: MirrorView[];
  /** Oldest first, without gaps or doubles as far as the server keeps them. */
  events: EventView[];
  daemon: DaemonView | null;
  connection: 'connecting' | 'open' | 'broken';
  /** Why the stream broke, as the browser or the server says it. */
  problem: string | null;
  /** When the cluster was last heard of, milliseconds since 1970 by the browser's clock. */
  heard: number | null;
}

export type StreamMessage =
  | { kind: 'opened'; at: number }
  | { kind: 'broken'; problem: string }
  | { kind: 'status'; at: number; data: StatusView }
  | { kind: 'mirrors'; at: number; data: MirrorView[] }
  | { kind: 'daemon'; at: number; data: DaemonView }
  | { kind: 'events'; at: number; data: EventView[] };

export const nothing: ClusterState = {
  status: null,
  mirrors: [],
  events: [],
  daemon: null,
  connection: 'connecting',
  problem: null,
  heard: null,
};

/** Entries kept in the browser; older ones stay on the nodes. */
export const KEPT = 3000;

export function reduce(state: ClusterState, message: StreamMessage): ClusterState {
  switch (message.kind) {
    case 'opened':
      return { ...state, connection: 'open', problem: null, heard: message.at };
    case 'broken':
      return { ...state, connection: 'broken', problem: message.problem };
    case 'status':
      return { ...state, status: message.data, heard: message.at };
    case 'mirrors':
      return { ...state, mirrors: message.data, heard: message.at };
    case 'daemon':
      return { ...state, daemon: message.data, heard: message.data.running ? message.at : state.heard };
    case 'events':
      return { ...state, events: merged(state.events, message.data), heard: message.at };
  }
}

/** What is shown may be out of date: the stream is broken, or the daemon behind it is down. */
export function isOld(state: ClusterState): boolean {
  return state.connection === 'broken' || state.daemon?.running === false;
}

const same = (event: EventView): string => `${event.by} ${event.number} ${event.time}`;

function merged(old: EventView[], more: EventView[]): EventView[] {
  const known = new Set(old.map(same));
  const added = more.filter((event) => !known.has(same(event)));
  if (added.length === 0) return old;
  const all = [...old, ...added];
  const ordered = added.every((event) => event.number > (old.at(-1)?.number ?? 0));
  if (!ordered) all.sort((a, b) => a.time.localeCompare(b.time) || a.number - b.number);
  return all.slice(-KEPT);
}

/** The addresses of the other nodes, where their consoles answer, too. */
export function otherConsoles(status: StatusView | null, port: string): { node: string; url: string }[] {
  const others = (status?.nodes ?? []).filter((node) => node.name !== status?.node);
  return others.flatMap((node) =>
    node.links.map((link) => ({ node: node.name, url: `https://${host(link.address)}:${port || '443'}/` })),
  );
}

/** `10.0.0.1:14338` and `[fd00::1]:14338` without their ports. */
function host(address: string): string {
  return address.replace(/:\d+$/, '');
}
