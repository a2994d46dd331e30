// Every action: the request it makes, who may ask for it, and the command that does the same.

import { seg } from './client';
import type { GroupView, Role, StatusView } from './types';

export type ActionId =
  | 'group.start'
  | 'group.stop'
  | 'group.switch'
  | 'group.enable'
  | 'group.disable'
  | 'group.clear'
  | 'group.maintain'
  | 'group.unmaintain'
  | 'resource.start'
  | 'resource.stop'
  | 'resource.restart'
  | 'resource.maintain'
  | 'resource.unmaintain'
  | 'node.drain'
  | 'node.undrain'
  | 'node.clear'
  | 'node.down'
  | 'node.fence'
  | 'node.maintain'
  | 'node.unmaintain'
  | 'cluster.disarm'
  | 'cluster.arm'
  | 'cluster.start_all'
  | 'cluster.stop_all'
  | 'mirror.pause'
  | 'mirror.resume'
  | 'mirror.verify'
  | 'config.rollback';

export interface Action {
  id: ActionId;
  /** Below /api/v1. */
  path: string;
  body: Record<string, string | number | boolean>;
  cli: string;
  needs: Role;
  /** Services stop, or may be harmed. */
  danger: boolean;
  /** This word must be typed first. */
  typed?: string;
  /** The server can say what would happen without doing it. */
  preview: boolean;
  /** What its name and explanation speak of. */
  about: { group?: string; resource?: string; node?: string; mirror?: string; revision?: number };
  /** Reached, as `status` shows it: the dialogue watches until then. */
  reached?: (status: StatusView, before: StatusView) => boolean;
}

const rank: Record<Role, number> = { viewer: 0, operator: 1, administrator: 2 };

export function may(role: Role | undefined, needs: Role): boolean {
  return role !== undefined && rank[role] >= rank[needs];
}

/** A word of a shell command: quoted only where it must be. */
export function quote(word: string): string {
  return /^[A-Za-z0-9_./:@-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

export const command = (...words: string[]): string => ['hotpair', ...words.map(quote)].join(' ');

const option = (name: string, value?: string): string[] => (value ? [name, value] : []);
const only = (node?: string): Record<string, string> => (node ? { node } : {});

type Extra = Partial<Pick<Action, 'danger' | 'typed' | 'needs' | 'reached' | 'preview'>>;

function action(
  id: ActionId,
  path: string,
  body: Action['body'],
  cli: string[],
  about: Action['about'],
  extra: Extra = {},
): Action {
  return { id, path, body, cli: command(...cli), needs: 'operator', danger: false, preview: true, about, ...extra };
}

const groupOf = (status: StatusView, name: string): GroupView | undefined =>
  status.groups.find((group) => group.name === name);

const runs = (group?: GroupView): boolean => group?.state === 'running' || group?.state === 'degraded';

export const group = {
  start: (name: string, on?: string): Action =>
    action('group.start', `/groups/${seg(name)}/start`, on ? { on } : {}, ['group', 'start', name, ...option('--on', on)], { group: name, node: on }, {
      reached: (status) => {
        const view = groupOf(status, name);
        return runs(view) && (!on || view?.active_on.includes(on) === true);
      },
    }),
  stop: (name: string): Action =>
    action('group.stop', `/groups/${seg(name)}/stop`, {}, ['group', 'stop', name], { group: name }, {
      danger: true,
      reached: (status) => groupOf(status, name)?.state === 'stopped',
    }),
  switchTo: (name: string, to?: string): Action =>
    action('group.switch', `/groups/${seg(name)}/switch`, to ? { to } : {}, ['group', 'switch', name, ...option('--to', to)], { group: name, node: to }, {
      danger: true,
      reached: (status, before) => {
        const view = groupOf(status, name);
        const from = groupOf(before, name)?.active_on[0];
        const now = view?.active_on.length === 1 ? view.active_on[0] : undefined;
        return runs(view) && now !== undefined && (to ? now === to : now !== from);
      },
    }),
  enable: (name: string, node?: string): Action =>
    action('group.enable', `/groups/${seg(name)}/enable`, only(node), ['group', 'enable', name, ...option('--node', node)], { group: name, node }),
  disable: (name: string, node?: string): Action =>
    action('group.disable', `/groups/${seg(name)}/disable`, only(node), ['group', 'disable', name, ...option('--node', node)], { group: name, node }),
  clear: (name: string, node?: string): Action =>
    action('group.clear', `/groups/${seg(name)}/clear`, only(node), ['group', 'clear', name, ...option('--node', node)], { group: name, node }),
  maintenance: (name: string, on: boolean, node?: string): Action =>
    action(
      on ? 'group.maintain' : 'group.unmaintain',
      `/groups/${seg(name)}/maintenance`,
      { on, ...only(node) },
      ['maintenance', on ? 'on' : 'off', '--group', name, ...option('--node', node)],
      { group: name, node },
    ),
};

const resourceState = (status: StatusView, name: string, resource: string): string | undefined =>
  groupOf(status, name)?.resources.find((view) => view.name === resource)?.state;

export const resource = {
  start: (name: string, what: string): Action =>
    action('resource.start', `/groups/${seg(name)}/resources/${seg(what)}/start`, {}, ['group', 'start', name, '--resource', what], { group: name, resource: what }, {
      reached: (status) => resourceState(status, name, what) === 'running',
    }),
  stop: (name: string, what: string): Action =>
    action('resource.stop', `/groups/${seg(name)}/resources/${seg(what)}/stop`, {}, ['group', 'stop', name, '--resource', what], { group: name, resource: what }, {
      danger: true,
      reached: (status) => resourceState(status, name, what) === 'stopped',
    }),
  restart: (name: string, what: string): Action =>
    action('resource.restart', `/groups/${seg(name)}/resources/${seg(what)}/restart`, {}, ['group', 'restart', name, '--resource', what], { group: name, resource: what }, { danger: true }),
  maintenance: (name: string, what: string, on: boolean): Action =>
    action(
      on ? 'resource.maintain' : 'resource.unmaintain',
      `/groups/${seg(name)}/resources/${seg(what)}/maintenance`,
      { on },
      ['maintenance', on ? 'on' : 'off', '--group', name, '--resource', what],
      { group: name, resource: what },
    ),
};

export const node = {
  drain: (name: string): Action =>
    action('node.drain', `/nodes/${seg(name)}/drain`, {}, ['node', 'drain', name], { node: name }, { danger: true }),
  undrain: (name: string): Action =>
    action('node.undrain', `/nodes/${seg(name)}/undrain`, {}, ['node', 'undrain', name], { node: name }),
  clear: (name: string): Action =>
    action('node.clear', `/nodes/${seg(name)}/clear`, {}, ['node', 'clear', name], { node: name }),
  down: (name: string): Action =>
    action('node.down', `/nodes/${seg(name)}/down`, {}, ['node', 'down', name], { node: name }, { danger: true, typed: name, needs: 'administrator' }),
  fence: (name: string): Action =>
    action('node.fence', `/nodes/${seg(name)}/fence`, {}, ['fence', 'run', name], { node: name }, { danger: true, typed: name, needs: 'administrator' }),
  maintenance: (name: string, on: boolean): Action =>
    action(
      on ? 'node.maintain' : 'node.unmaintain',
      `/nodes/${seg(name)}/maintenance`,
      { on },
      ['maintenance', on ? 'on' : 'off', '--node', name],
      { node: name },
    ),
};

export const cluster = {
  disarm: (): Action => action('cluster.disarm', '/cluster/disarm', {}, ['disarm'], {}, { danger: true, reached: (status) => status.disarmed }),
  arm: (): Action => action('cluster.arm', '/cluster/arm', {}, ['arm'], {}, { reached: (status) => !status.disarmed }),
  startAll: (): Action => action('cluster.start_all', '/cluster/start_all', {}, ['group', 'start', '--all'], {}),
  stopAll: (name: string): Action =>
    action('cluster.stop_all', '/cluster/stop_all', {}, ['group', 'stop', '--all'], {}, { danger: true, typed: name }),
};

/** The server has no preview of work on mirrors: it changes no data of the active side. */
export const mirror = {
  pause: (name: string, what: string, at?: string): Action =>
    action('mirror.pause', `/mirrors/${seg(name)}/${seg(what)}/pause`, only(at), ['mirror', 'pause', `${name}/${what}`], { group: name, mirror: what, node: at }, { preview: false }),
  resume: (name: string, what: string, at?: string): Action =>
    action('mirror.resume', `/mirrors/${seg(name)}/${seg(what)}/resume`, only(at), ['mirror', 'resume', `${name}/${what}`], { group: name, mirror: what, node: at }, { preview: false }),
  verify: (name: string, what: string, at?: string): Action =>
    action('mirror.verify', `/mirrors/${seg(name)}/${seg(what)}/verify`, only(at), ['mirror', 'verify', `${name}/${what}`], { group: name, mirror: what, node: at }, { preview: false }),
};

export const config = {
  rollback: (revision: number): Action =>
    action('config.rollback', '/config/rollback', { revision }, ['config', 'rollback', String(revision)], { revision }, { danger: true, needs: 'administrator' }),
};

export const simulateCommand = (fail: string): string => command('simulate', '--fail', fail);
