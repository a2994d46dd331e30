import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { type Action, cluster, config, group, may, mirror, node, quote, resource, simulateCommand } from '../src/api/actions';
import type { GroupView, StatusView } from '../src/api/types';

const cases: [Action, string, string, object][] = [
  [group.start('shop'), 'hotpair group start shop', '/groups/shop/start', {}],
  [group.start('shop', 'node2'), 'hotpair group start shop --on node2', '/groups/shop/start', { on: 'node2' }],
  [group.stop('shop'), 'hotpair group stop shop', '/groups/shop/stop', {}],
  [group.switchTo('shop', 'node2'), 'hotpair group switch shop --to node2', '/groups/shop/switch', { to: 'node2' }],
  [group.switchTo('shop'), 'hotpair group switch shop', '/groups/shop/switch', {}],
  [group.enable('shop'), 'hotpair group enable shop', '/groups/shop/enable', {}],
  [group.disable('shop', 'node1'), 'hotpair group disable shop --node node1', '/groups/shop/disable', { node: 'node1' }],
  [group.clear('shop', 'node1'), 'hotpair group clear shop --node node1', '/groups/shop/clear', { node: 'node1' }],
  [group.maintenance('shop', true), 'hotpair maintenance on --group shop', '/groups/shop/maintenance', { on: true }],
  [group.maintenance('shop', false, 'node1'), 'hotpair maintenance off --group shop --node node1', '/groups/shop/maintenance', { on: false, node: 'node1' }],
  [resource.start('shop', 'web'), 'hotpair group start shop --resource web', '/groups/shop/resources/web/start', {}],
  [resource.stop('shop', 'web'), 'hotpair group stop shop --resource web', '/groups/shop/resources/web/stop', {}],
  [resource.restart('shop', 'web'), 'hotpair group restart shop --resource web', '/groups/shop/resources/web/restart', {}],
  [resource.maintenance('shop', 'web', true), 'hotpair maintenance on --group shop --resource web', '/groups/shop/resources/web/maintenance', { on: true }],
  [node.drain('node1'), 'hotpair node drain node1', '/nodes/node1/drain', {}],
  [node.undrain('node1'), 'hotpair node undrain node1', '/nodes/node1/undrain', {}],
  [node.clear('node1'), 'hotpair node clear node1', '/nodes/node1/clear', {}],
  [node.down('node1'), 'hotpair node down node1', '/nodes/node1/down', {}],
  [node.fence('node1'), 'hotpair fence run node1', '/nodes/node1/fence', {}],
  [node.maintenance('node1', false), 'hotpair maintenance off --node node1', '/nodes/node1/maintenance', { on: false }],
  [cluster.disarm(), 'hotpair disarm', '/cluster/disarm', {}],
  [cluster.arm(), 'hotpair arm', '/cluster/arm', {}],
  [cluster.startAll(), 'hotpair group start --all', '/cluster/start_all', {}],
  [cluster.stopAll('ward3'), 'hotpair group stop --all', '/cluster/stop_all', {}],
  [mirror.pause('shop', 'data'), 'hotpair mirror pause shop/data', '/mirrors/shop/data/pause', {}],
  [mirror.resume('shop', 'data'), 'hotpair mirror resume shop/data', '/mirrors/shop/data/resume', {}],
  [mirror.verify('shop', 'data'), 'hotpair mirror verify shop/data', '/mirrors/shop/data/verify', {}],
  [config.rollback(6), 'hotpair config rollback 6', '/config/rollback', { revision: 6 }],
];

describe('actions', () => {
  it.each(cases)('%o has its command and its request', (action, cli, path, body) => {
    expect(action.cli).toBe(cli);
    expect(action.path).toBe(path);
    expect(action.body).toEqual(body);
  });

  it('that can destroy data need an administrator and a typed word', () => {
    for (const action of [node.down('node2'), node.fence('node2')]) {
      expect([action.needs, action.typed, action.danger]).toEqual(['administrator', 'node2', true]);
    }
    expect(cluster.stopAll('ward3').typed).toBe('ward3');
  });

  it('keep odd names out of paths and shells', () => {
    expect(group.stop('a/b c').path).toBe('/groups/a%2Fb%20c/stop');
    expect(group.stop("a'; reboot").cli).toBe(`hotpair group stop 'a'\\''; reboot'`);
    expect(quote('shop/web')).toBe('shop/web');
    expect(simulateCommand('shop/web')).toBe('hotpair simulate --fail shop/web');
  });

  it('are ordered by role', () => {
    expect(may('viewer', 'operator')).toBe(false);
    expect(may('operator', 'administrator')).toBe(false);
    expect(may('administrator', 'operator')).toBe(true);
    expect(may(undefined, 'viewer')).toBe(false);
  });

  it.skipIf(!process.env.HOTPAIR)('have commands that the program takes', () => {
    const all = [...cases.map(([action]) => action.cli), simulateCommand('shop/web'), 'hotpair explain shop', 'hotpair events --follow'];
    for (const cli of [...all, 'hotpair config show', 'hotpair config history']) {
      const args = cli.split(' ').slice(1);
      const { status, stderr } = spawnSync(process.env.HOTPAIR ?? '', ['--root', '/nonexistent', ...args], { encoding: 'utf8', timeout: 20_000 });
      // 2: the command line is wrong. Here the daemon does not run (3), or a confirmation is missing (1).
      expect([1, 3], `${cli}: ${stderr}`).toContain(status);
    }
  });
});

const shop = (state: string, active: string[]): StatusView =>
  ({ groups: [{ name: 'shop', state, active_on: active } as unknown as GroupView] }) as StatusView;

describe('a switchover', () => {
  const before = shop('running', ['node1']);
  it('is reached when the group runs on the other node, and on it only', () => {
    const { reached } = group.switchTo('shop', 'node2');
    expect(reached?.(before, before)).toBe(false);
    expect(reached?.(shop('starting', ['node2']), before)).toBe(false);
    expect(reached?.(shop('running', ['node1', 'node2']), before)).toBe(false);
    expect(reached?.(shop('running', ['node2']), before)).toBe(true);
  });

  it('without a node is reached on any other one', () => {
    const { reached } = group.switchTo('shop');
    expect(reached?.(before, before)).toBe(false);
    expect(reached?.(shop('degraded', ['node3']), before)).toBe(true);
  });

  it('that went back is not reached', () => {
    expect(group.switchTo('shop', 'node2').reached?.(shop('running', ['node1']), before)).toBe(false);
  });
});
