// The live stream, kept open as long as somebody is logged in.

import { useSyncExternalStore } from 'react';
import { base, failureOf, get, headers } from '../api/client';
import { read } from '../api/sse';
import type { EventView } from '../api/types';
import { type ClusterState, nothing, reduce, type StreamMessage } from './reduce';

/** The server sends a comment each 15 s; three missed ones mean that it is gone. */
const SILENCE_MS = 45_000;
const OPENING_MS = 10_000;
/** Waits before the next try, then the last one again and again. */
const RETRY_MS = [500, 1000, 2000, 5000];
/** Entries of the log asked for at first. */
const FIRST_EVENTS = 500;

let state: ClusterState = nothing;
const listeners = new Set<() => void>();
let running: AbortController | null = null;
let wake: () => void = () => undefined;

function apply(message: StreamMessage): void {
  state = reduce(state, message);
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useCluster(): ClusterState {
  return useSyncExternalStore(subscribe, () => state);
}

/** Also used to have the sentences anew after another language was chosen. */
export function connect(signedOut: () => void): () => void {
  running?.abort();
  const controller = new AbortController();
  running = controller;
  void keepOpen(controller.signal, signedOut);
  return () => controller.abort();
}

/** Forgets everything: another person may log in. */
export function forget(): void {
  running?.abort();
  state = nothing;
  for (const listener of listeners) listener();
}

/** Does not wait for the next try. */
export function retryNow(): void {
  wake();
}

async function keepOpen(signal: AbortSignal, signedOut: () => void): Promise<void> {
  for (let tries = 0; !signal.aborted; tries += 1) {
    const opened = await once(signal, signedOut);
    if (signal.aborted) return;
    if (opened) tries = 0;
    await pause(RETRY_MS[Math.min(tries, RETRY_MS.length - 1)] ?? 5000, signal);
  }
}

/** One life of the stream; whether it was opened. */
async function once(signal: AbortSignal, signedOut: () => void): Promise<boolean> {
  const own = new AbortController();
  const stop = () => own.abort();
  signal.addEventListener('abort', stop, { once: true });
  const opening = setTimeout(stop, OPENING_MS);
  let opened = false;
  try {
    const response = await fetch(`${base}/stream`, {
      headers: { ...headers(), Accept: 'text/event-stream' },
      credentials: 'same-origin',
      cache: 'no-store',
      signal: own.signal,
    });
    clearTimeout(opening);
    if (!response.ok || !response.body) {
      const failure = await failureOf(response);
      if (failure.kind === 'unauthenticated') signedOut();
      throw failure;
    }
    opened = true;
    apply({ kind: 'opened', at: Date.now() });
    void backlog(signal);
    await read(response.body, SILENCE_MS, ({ event, data }) => {
      if (!signal.aborted) take(event, data);
    });
    if (!signal.aborted) apply({ kind: 'broken', problem: '' });
  } catch (error) {
    if (!signal.aborted) apply({ kind: 'broken', problem: error instanceof Error ? error.message : '' });
  } finally {
    clearTimeout(opening);
    signal.removeEventListener('abort', stop);
    own.abort();
  }
  return opened;
}

/** What was logged before the stream was opened. */
async function backlog(signal: AbortSignal): Promise<void> {
  const events = await get<EventView[]>(`/events?since=0&last=${FIRST_EVENTS}`).catch(() => null);
  if (events && !signal.aborted) apply({ kind: 'events', at: Date.now(), data: events });
}

function take(event: string, text: string): void {
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch {
    return;
  }
  const at = Date.now();
  if (event === 'status') apply({ kind: 'status', at, data: data as never });
  if (event === 'mirrors') apply({ kind: 'mirrors', at, data: data as never });
  if (event === 'daemon') apply({ kind: 'daemon', at, data: data as never });
  if (event === 'event') apply({ kind: 'events', at, data: [data as EventView] });
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    wake = () => {
      clearTimeout(timer);
      resolve();
    };
    signal.addEventListener('abort', wake, { once: true });
  });
}
