// A cluster that exists in words only: the same shapes as the real server's, two scenes, and steps that
// take their time. Sentences are pairs of English and Chinese.

const s = (en, zh) => ({ en, zh });
/** Everything with its sentences in one language. */
export const told = (value, language) => {
  if (Array.isArray(value)) return value.map((item) => told(item, language));
  if (value && typeof value === 'object') {
    if ('en' in value && 'zh' in value) return value[language];
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, told(item, language)]));
  }
  return value;
};

const GIB = 2 ** 30;
const resource = (name, kind, requires, state = 'running', detail = '') => ({
  name, kind, requires, state, detail, restarts: 0, restart_due: false,
});

export class World {
  constructor(scene = 'well') {
    this.accounts = new Map([
      ['admin', { role: 'administrator', password: 'practice-admin', tokens: ['monitoring'] }],
      ['wang', { role: 'operator', password: 'practice-wang', tokens: [] }],
      ['li', { role: 'viewer', password: 'practice-li', tokens: [] }],
    ]);
    this.listeners = new Set();
    this.timers = new Set();
    this.reset(scene);
  }

  reset(scene) {
    for (const timer of this.timers) clearTimeout(timer);
    this.timers.clear();
    this.daemon = { running: true, problem: null };
    this.disarmed = false;
    this.revision = 7;
    this.number = 0;
    this.events = [];
    this.decisions = { shop: [], mail: [] };
    this.nodes = ['node1', 'node2'].map((name, index) => ({
      name, number: index + 1, state: 'online', boot_id: `00000001${index}7696a18`, votes: true,
      maintenance: false, drained: false, held_out: false, fencing: null,
      links: ['lan', 'direct', 'hb'].map((link, net) => ({
        name: link, address: `10.77.${net + 1}.1${index + 1}:14338`, state: index === 0 ? 'own' : 'up',
        loss_percent: 0, round_trip_us: index === 0 ? null : 310 + net * 420,
      })),
    }));
    this.witness = { name: 'witness', state: 'online', votes: true, disk: null };
    this.groups = [
      this.makeGroup('shop', ['node1', 'node2'], 'node1', [
        resource('ip', 'address', []), resource('data', 'mirror', []), resource('files', 'mount', ['data']),
        resource('database', 'ocf', ['files', 'ip']), resource('web', 'service', ['database', 'ip']),
      ]),
      this.makeGroup('mail', ['node2', 'node1'], 'node2', [resource('ip', 'address', []), resource('smtp', 'service', ['ip'])]),
    ];
    this.mirrors = [mirror()];
    this.text = CONFIG;
    this.history = [
      { revision: 7, time: ago(3600), summary: 'group.mail: added' },
      { revision: 6, time: ago(90_000), summary: 'group.shop.service.web: command' },
      { revision: 5, time: ago(200_000), summary: 'witness: added' },
    ];
    for (const [level, node, group, text, seconds] of STORY) this.log(level, node, group, text, seconds);
    this.decisions.shop.push(
      { version: '2.7', from: null, to: 'node1', reason: s('first start on the fit node of highest priority', '首次启动：优先级最高的可用节点') },
      { version: '3.4', from: 'node1', to: 'node2', reason: s('node1 sent no heartbeat on any link for 600 ms', '600 毫秒内没有在任何链路上收到 node1 的心跳') },
      { version: '3.9', from: 'node2', to: 'node1', reason: s('the operator asked for it: switch group shop to node1', '操作员要求：将资源树 shop 切换到 node1') },
    );
    this.decisions.mail.push(
      { version: '2.8', from: null, to: 'node2', reason: s('first start on the fit node of highest priority', '首次启动：优先级最高的可用节点') },
    );
    if (scene === 'trouble') this.trouble();
    this.changed();
  }

  makeGroup(name, nodes, on, resources) {
    return {
      name, state: 'running', active_on: [on], holder: on, epoch: 3, pinned: null, maintenance: false, disabled: false,
      stopped_resources: [], relations: [], reason: this.reasonStart(), verdict: stays(on),
      resources, nodes: nodes.map((node) => ({ name: node, role: node === on ? 'active' : 'standby', fit: true, reason: '' })),
    };
  }

  reasonStart() {
    return s('the operator asked for it', '操作员要求');
  }

  trouble() {
    const [shop, mail] = this.groups;
    const [, node2] = this.nodes;
    node2.links[0].state = 'down';
    node2.links[0].loss_percent = 100;
    node2.links[0].round_trip_us = null;
    node2.links[2].state = 'warning';
    node2.links[2].loss_percent = 18;
    node2.held_out = true;
    this.witness.state = 'silent';
    shop.state = 'degraded';
    shop.verdict = s('stays on node1: it runs there, degraded: web does not answer http://10.77.1.100/', '留在 node1：在此运行，已降级：web 没有应答 http://10.77.1.100/');
    shop.resources[4].state = 'failed';
    shop.resources[4].detail = s('http://10.77.1.100/ answered 503', 'http://10.77.1.100/ 返回 503');
    shop.resources[4].restarts = 2;
    shop.nodes[1] = { name: 'node2', role: 'unfit', fit: false, reason: s('it failed too often and is held out; its copy of data is outdated', '故障过于频繁，暂不接管；data 的副本已过期') };
    mail.state = 'failed';
    mail.active_on = [];
    mail.holder = null;
    mail.verdict = s('failed: no node could run it: smtp ended with code 1', '运行错误：没有节点能运行它：smtp 以代码 1 退出');
    mail.resources[0].state = 'stopped';
    mail.resources[1].state = 'failed';
    mail.nodes = ['node2', 'node1'].map((name) => ({ name, role: 'unfit', fit: false, reason: s('smtp failed there: ended with code 1', 'smtp 在此失败：以代码 1 退出') }));
    const [copy] = this.mirrors;
    copy.copies[1].state = 'outdated';
    copy.attention = [s('the copy on node2 is outdated: 2.5 GiB are being sent', 'node2 上的副本已过期：正在发送 2.5 GiB')];
    copy.alone = true;
    copy.here.out_of_sync = 2.5 * GIB;
    copy.here.resync = { done: 17.5 * GIB, total: 20 * GIB, moved: GIB, rate: 96 * 2 ** 20, source: true };
    this.log('error', 'node2', 'mail', s('smtp failed on node2: ended with code 1', 'smtp 在 node2 上失败：以代码 1 退出'));
    this.log('warning', 'node2', null, s('node2 is not heard on link lan', '链路 lan 上收不到 node2 的心跳'));
  }

  later(ms, work) {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      work();
      this.changed();
    }, ms);
    this.timers.add(timer);
  }

  log(level, node, group, text, seconds = 0) {
    this.number += 1;
    const event = { number: this.number, time: ago(seconds), level, by: 'node1', node, group, text };
    this.events.push(event);
    for (const listener of this.listeners) listener('event', event);
  }

  changed() {
    for (const listener of this.listeners) {
      listener('status', this.status());
      listener('mirrors', this.mirrors);
      listener('daemon', this.daemon);
    }
  }

  status() {
    return {
      cluster: {
        name: 'ward3', id: '052ed167250e2b3b', revision: this.revision, guarantee: 'single-active',
        guarantee_reason: s('3 votes with witness as the witness: a majority decides', '3 票，witness 为仲裁：由多数票决定'),
      },
      node: 'node1', leader: 'node1', term: 3, version: '3.12', committed: '3.12', lease: true, disarmed: this.disarmed,
      nodes: this.nodes, witness: this.witness,
      groups: this.groups.map(({ resources, ...group }) => ({ ...group, resources: resources.map(({ requires, ...view }) => view) })),
    };
  }

  group(name) {
    return this.groups.find((group) => group.name === name);
  }

  /** Stops and starts one resource after the other, as the real one would. */
  move(group, to) {
    const from = group.active_on[0];
    const down = from ? [...group.resources].reverse() : [];
    const step = 220;
    group.state = from ? 'stopping' : 'starting';
    group.verdict = s(`moves to ${to ?? 'nobody'}`, `正在移动到 ${to ?? '无节点'}`);
    down.forEach((view, index) => this.later(step * (index + 1), () => {
      view.state = 'stopped';
      this.log('message', from, group.name, s(`${view.name} stopped on ${from}`, `${view.name} 已在 ${from} 上停止`));
    }));
    const begun = step * (down.length + 1);
    if (!to) return this.later(begun, () => this.place(group, null));
    group.resources.forEach((view, index) => this.later(begun + step * (index + 1), () => {
      group.state = 'starting';
      view.state = 'running';
      this.log('message', to, group.name, s(`${view.name} running on ${to}`, `${view.name} 已在 ${to} 上运行`));
    }));
    return this.later(begun + step * (group.resources.length + 2), () => this.place(group, to));
  }

  place(group, to) {
    const from = group.active_on[0] ?? null;
    group.active_on = to ? [to] : [];
    group.holder = to;
    group.epoch += 1;
    group.state = to ? 'running' : 'stopped';
    group.verdict = to ? stays(to) : s('stopped: the operator asked for it', '已停止：操作员要求');
    group.reason = this.reasonStart();
    group.nodes = group.nodes.map(({ name }) => ({ name, role: name === to ? 'active' : 'standby', fit: true, reason: '' }));
    this.decisions[group.name].push({ version: `3.${12 + group.epoch}`, from, to, reason: this.reasonStart() });
    this.log(to ? 'cleared' : 'message', to, group.name, to ? s(`running on ${to}`, `在 ${to} 上运行`) : s('stopped', '已停止'));
  }
}

const stays = (on) => s(`stays on ${on}: it runs there`, `留在 ${on}：在此运行`);
const ago = (seconds) => new Date(Date.UTC(2026, 10, 26, 2, 14, 7) - seconds * 1000).toISOString();

function mirror() {
  const copy = (node, number) => ({
    node, number, state: 'up to date', place: '/dev/vg0/data', disk: '', first: false, connected: true, open: number === 1,
  });
  return {
    group: 'shop', name: 'data', size: 20 * GIB, mode: 'synchronous', lag_limit: null, generation: '3.2', active_on: 'node1', alone: false,
    copies: [copy('node1', 1), copy('node2', 2)], attention: [],
    here: {
      device: '/dev/hotpair/data', export: 'ublk', link: 'direct', out_of_sync: 0, resync: null, verify: null, verify_found: 0, paused: false,
      lag_bytes: 0, lag_ms: 0, reads: 12_000, writes: 88_000, read_bytes: GIB, write_bytes: 3 * GIB, longest_stall_ms: 12,
      last_write_ms: Date.UTC(2026, 10, 26, 2, 14, 6), apart_since_ms: null,
      snapshots: [{ name: 'before-upgrade', taken_ms: Date.UTC(2026, 10, 25, 1, 0, 0), automatic: false, bytes: 1.5 * GIB }],
    },
  };
}

const STORY = [
  ['message', 'node1', null, s('the daemon has started', '守护进程已启动'), 9000],
  ['cleared', 'node1', null, s('node1 holds a lease: a majority of the voters answers it', 'node1 持有租约：多数投票者有应答'), 8999],
  ['warning', 'node1', null, s('node1 is silent', '没有收到 node1 的心跳'), 5000],
  ['error', 'node1', 'shop', s('moves from node1 to node2: node1 sent no heartbeat on any link for 600 ms', '从 node1 移动到 node2：600 毫秒内没有收到 node1 的心跳'), 4999],
  ['cleared', 'node2', 'shop', s('running on node2', '在 node2 上运行'), 4998],
  ['cleared', 'node1', null, s('node1 is heard', '已收到 node1 的心跳'), 4000],
  ['message', null, null, s('wang (operator) from 10.0.0.7: switch group shop to node1', 'wang（操作员）来自 10.0.0.7：将资源树 shop 切换到 node1'), 1200],
  ['cleared', 'node1', 'shop', s('running on node1', '在 node1 上运行'), 1199],
  ['message', null, null, s('configuration revision 7', '配置版本 7'), 600],
];

const CONFIG = `[cluster]
name = "ward3"
profile = "standard"          # failover within a second

[[node]]
name = "node1"

[[node]]
name = "node2"

[[link]]                      # the service network
name = "lan"
addresses = { node1 = "10.77.1.11", node2 = "10.77.1.12" }

[witness]
name = "witness"
addresses = ["10.77.1.9"]

[group.shop]
nodes = ["node1", "node2"]    # the preferred node first
priority = 10

[group.shop.address.ip]
address = "10.77.1.100/24"
nics = ["eth0"]

[group.shop.service.web]
command = ["/usr/bin/shop", "--listen", "10.77.1.100:80"]
requires = ["ip", "database"]
`;
