// The calls of the API, answered from the world of words.

import { randomBytes } from 'node:crypto';

export class Refusal extends Error {
  constructor(status, kind, problem, more = {}, headers = {}) {
    super(problem);
    Object.assign(this, { status, kind, more, headers });
  }
}

const s = (en, zh) => ({ en, zh });
const rank = { viewer: 0, operator: 1, administrator: 2 };

function login(state, body) {
  if (state.failures >= 5) throw new Refusal(429, 'throttled', 'too many failed log-ins', {}, { 'Retry-After': '30' });
  const account = state.world.accounts.get(body.name);
  if (!account || account.password !== body.password) {
    state.failures += 1;
    throw new Refusal(401, 'unauthenticated', 'name or password is wrong');
  }
  state.failures = 0;
  const cookie = randomBytes(16).toString('hex');
  const csrf = randomBytes(16).toString('hex');
  state.sessions.set(cookie, { name: body.name, csrf });
  return {
    data: { name: body.name, role: account.role, csrf },
    headers: { 'Set-Cookie': `hotpair_session=${cookie}; HttpOnly; SameSite=Strict; Path=/` },
  };
}

export function answer(state, call, session, request) {
  const { method, path } = call;
  if (method === 'POST' && path === '/login') return login(state, call.body);
  const me = session();
  const role = state.world.accounts.get(me.name).role;
  if (method !== 'GET' && request.headers['x-hotpair-csrf'] !== me.csrf) throw new Refusal(403, 'forbidden', 'the CSRF header is missing or wrong');
  const need = (least) => {
    if (rank[role] < rank[least]) throw new Refusal(403, 'forbidden', `this needs the role ${least}, and ${me.name} is ${role}`);
  };
  const parts = path.split('/').slice(1).map(decodeURIComponent);
  const context = { ...call, state, world: state.world, me, role, need, parts };
  const handler = HANDLERS[`${method} ${parts[0]}`];
  const found = handler?.(context);
  if (!found) throw new Refusal(404, 'not_found', `there is no ${method} ${path}`);
  return found;
}

const ok = (data) => ({ data });
const nothing = () => ({ status: 204 });

const HANDLERS = {
  'GET me': ({ me, role }) =>
    ok({ name: me.name, role, csrf: me.csrf, cluster: 'ward3', node: 'node1', version: '0.1.0' }),
  'POST logout': ({ state, me }) => {
    state.sessions.delete(me.cookie);
    return nothing();
  },
  'PUT me': ({ world, me, body }) => {
    const account = world.accounts.get(me.name);
    if (account.password !== body.old) throw new Refusal(403, 'forbidden', 'the present password is wrong');
    account.password = body.new;
    return nothing();
  },
  'GET status': ({ world }) => ok(world.status()),
  'GET events': ({ world, query }) => {
    const since = Number(query.get('since') ?? 0);
    const last = Number(query.get('last') ?? 1000);
    return ok(world.events.filter((event) => event.number > since).slice(-last));
  },
  'GET mirrors': ({ world }) => ok(world.mirrors),
  'GET fences': () =>
    ok([{ device: 'ipmi2', node: 'node2', level: 1, agent: 'fence_ipmilan', action: 'reboot', answers: null, said: '' }]),
  'GET groups': groupRead,
  'POST groups': groupAct,
  'POST nodes': nodeAct,
  'POST cluster': clusterAct,
  'POST mirrors': mirrorAct,
  'POST simulate': ({ world, body, need }) => {
    need('operator');
    return ok({ lines: simulate(world, body.fail) });
  },
  'GET config': configRead,
  'POST config': configAct,
  'GET accounts': ({ world, need }) => {
    need('administrator');
    return ok([...world.accounts].map(([name, { role, tokens }]) => ({ name, role, tokens })));
  },
  'PUT accounts': ({ world, parts, body, need }) => {
    need('administrator');
    const old = world.accounts.get(parts[1]);
    if (!old && !body.password) throw new Refusal(400, 'bad_request', 'a new account needs a password');
    world.accounts.set(parts[1], { role: body.role, password: body.password ?? old.password, tokens: old?.tokens ?? [] });
    return nothing();
  },
  'DELETE accounts': ({ world, parts, need }) => {
    need('administrator');
    if (!world.accounts.delete(parts[1])) throw new Refusal(404, 'not_found', `there is no account ${parts[1]}`);
    return nothing();
  },
};

function simulate(world, fail) {
  const name = world.nodes.some((node) => node.name === fail) ? fail : null;
  if (!name) return [s(`${fail} fails`, `${fail} 发生故障`), s('nothing moves', '没有任何移动')];
  const moved = world.groups.filter((group) => group.active_on[0] === name).map((group) => group.name);
  const other = name === 'node1' ? 'node2' : 'node1';
  return [
    s(`${name} loses its power`, `${name} 断电`),
    ...moved.map((group) => s(`${group} is given to ${other}: ${name} sent no heartbeat on any link for 600 ms`, `${group} 交给 ${other}：600 毫秒内没有收到 ${name} 的心跳`)),
    s('in the end:', '最终：'),
    ...world.groups.map(({ name: group }) => s(`  ${group} stays on ${other}: it runs there`, `  ${group} 留在 ${other}：在此运行`)),
  ];
}

function groupRead({ world, parts }) {
  const group = world.group(parts[1]);
  if (!group) throw new Refusal(404, 'not_found', `there is no group ${parts[1]}`);
  if (parts[2] === 'graph') {
    return ok({
      resources: group.resources.map(({ name, kind, requires }) => ({ name, kind, requires })),
      nodes: group.nodes.map((fit) => fit.name),
    });
  }
  if (parts[2] !== 'explain') return null;
  const { name, state, verdict, nodes, relations } = group;
  return ok({ group: name, state, verdict, nodes, relations, decisions: world.decisions[name] });
}

function dry({ query }, text, work) {
  if (query.get('dry_run') === 'true') return ok({ text: s(`would be done: ${text.en}`, `将会执行：${text.zh}`) });
  work();
  return ok({ text });
}

function groupAct(context) {
  const { world, parts, body, need } = context;
  need('operator');
  const group = world.group(parts[1]);
  if (!group) throw new Refusal(404, 'not_found', `there is no group ${parts[1]}`);
  const flag = (text, change) =>
    dry(context, text, () => {
      change();
      world.changed();
    });
  if (parts[2] === 'resources') {
    const view = group.resources.find((one) => one.name === parts[3]);
    const text = s(`${parts[4]} ${parts[3]} of ${group.name}`, `对 ${group.name} 的 ${parts[3]} 执行 ${parts[4]}`);
    return flag(text, () => {
      if (parts[4] === 'stop') Object.assign(view, { state: 'stopped' }) && group.stopped_resources.push(view.name);
      if (parts[4] === 'start') {
        view.state = 'running';
        group.stopped_resources = group.stopped_resources.filter((name) => name !== view.name);
      }
      if (parts[4] === 'maintenance') view.state = body.on ? 'maintenance' : 'running';
    });
  }
  const names = group.resources.map((view) => view.name);
  const [down, up] = [[...names].reverse().join(', '), names.join(', ')];
  const from = group.active_on[0];
  switch (parts[2]) {
    case 'switch': {
      const to = body.to ?? group.nodes.find((fit) => fit.name !== from && fit.fit)?.name;
      const fit = group.nodes.find((one) => one.name === to);
      if (!to || !fit?.fit) {
        const reason = fit?.reason ?? s('no other node is fit', '没有其他可用节点');
        throw new Refusal(409, 'refused', context.language === 'zh' ? `${to ?? '其他节点'} 无法运行它：${reason.zh}` : `${to ?? 'another node'} cannot run it: ${reason.en}`);
      }
      return dry(
        context,
        s(`${group.name} will be stopped on ${from} and started on ${to}; first stop ${down}; then start ${up}`, `${group.name} 将在 ${from} 上停止并在 ${to} 上启动；先停止 ${down}；再启动 ${up}`),
        () => {
          world.log('message', null, group.name, s(`${context.me.name} (${context.role}) from 127.0.0.1: switch group ${group.name} to ${to}`, `${context.me.name} 来自 127.0.0.1：将资源树 ${group.name} 切换到 ${to}`));
          world.move(group, to);
        },
      );
    }
    case 'start':
      return dry(context, s(`${group.name} will be started: ${up}`, `${group.name} 将启动：${up}`), () => world.move(group, body.on ?? group.nodes[0].name));
    case 'stop':
      return dry(context, s(`${group.name} will be stopped on ${from} and stay stopped until it is started: stop ${down}`, `${group.name} 将在 ${from} 上停止并保持停止，直到再次启动：停止 ${down}`), () => world.move(group, null));
    case 'maintenance':
      return flag(s(`${group.name} will be looked at, but not acted on; what runs goes on running`, `${group.name} 只检测，不做任何处理；已运行的继续运行`), () => {
        group.maintenance = body.on;
        group.state = body.on ? 'maintenance' : 'running';
      });
    case 'enable':
    case 'disable':
      return flag(s(`automatic takeover of ${group.name} will be ${parts[2]}d`, `将${parts[2] === 'enable' ? '开启' : '关闭'} ${group.name} 的自动切换`), () => {
        group.disabled = parts[2] === 'disable';
      });
    case 'clear':
      return flag(s(`the failures of ${group.name} will be forgotten`, `将清除 ${group.name} 的故障记录`), () => undefined);
    default:
      return null;
  }
}

function nodeAct(context) {
  const { world, parts, body, need } = context;
  const node = world.nodes.find((one) => one.name === parts[1]);
  if (!node) throw new Refusal(404, 'not_found', `there is no node ${parts[1]}`);
  need(['down', 'fence'].includes(parts[2]) ? 'administrator' : 'operator');
  const text = s(`${parts[2]} ${node.name}`, `对 ${node.name} 执行 ${parts[2]}`);
  const texts = {
    drain: s(`${node.name} will be given no new groups; its groups move away`, `不再分配资源树给 ${node.name}；其资源树将移走`),
    maintenance: s(`${node.name} will be looked at, but not acted on`, `对 ${node.name} 只检测，不做任何处理`),
  };
  return dry(context, texts[parts[2]] ?? text, () => {
    if (parts[2] === 'drain') node.drained = true;
    if (parts[2] === 'undrain') node.drained = false;
    if (parts[2] === 'clear') node.held_out = false;
    if (parts[2] === 'maintenance') node.maintenance = body.on;
    world.changed();
  });
}

function clusterAct(context) {
  const { world, parts, need } = context;
  need('operator');
  const text = s(`${parts[1]}: every group will stay where it is`, `${parts[1]}：所有资源树留在原处`);
  return dry(context, text, () => {
    if (parts[1] === 'disarm') world.disarmed = true;
    if (parts[1] === 'arm') world.disarmed = false;
    world.changed();
  });
}

function mirrorAct({ world, parts, need }) {
  need('operator');
  const mirror = world.mirrors.find((one) => one.group === parts[1] && one.name === parts[2]);
  if (!mirror) throw new Refusal(404, 'not_found', `there is no mirror ${parts[1]}/${parts[2]}`);
  if (parts[3] === 'pause') mirror.here.paused = true;
  if (parts[3] === 'resume') mirror.here.paused = false;
  world.changed();
  return ok({ text: s(`${parts[3]}: done`, `${parts[3]}：完成`) });
}

function configRead({ world, parts, query, need }) {
  need('operator');
  if (parts[1] === 'history') return ok(world.history);
  return ok({ revision: Number(query.get('revision') ?? world.revision), text: world.text });
}

function configAct(context) {
  const { world, parts, body, need } = context;
  need('administrator');
  if (parts[1] === 'rollback') {
    return dry(context, s(`revision ${body.revision} will be in force again`, `版本 ${body.revision} 将重新生效`), () => next(world, `back to ${body.revision}`));
  }
  const at = body.text.indexOf('priorty');
  const bad = at >= 0;
  const line = body.text.slice(0, at).split('\n').length;
  if (parts[1] === 'check') {
    const rendered = bad ? `error: unknown key \`priorty\`\n --> configuration:${line}:1\n  |\n  = help: did you mean \`priority\`?\n` : '';
    const changed = !bad && body.text !== world.text;
    return ok({ ok: !bad, rendered, changes: changed ? [s('group.shop: priority: 10 -> 20; nothing is restarted', 'group.shop：priority：10 -> 20；不会重启任何服务')] : [] });
  }
  if (parts[1] !== 'apply') return null;
  if (body.revision !== world.revision) throw new Refusal(412, 'conflict', `revision ${world.revision} is in force, the text was made from ${body.revision}`);
  if (bad) throw new Refusal(409, 'refused', 'the text has errors');
  world.text = body.text;
  next(world, 'group.shop: priority');
  return ok({ text: s('changes:\n  group.shop: priority: 10 -> 20', '变更：\n  group.shop：priority：10 -> 20') });
}

function next(world, summary) {
  world.revision += 1;
  world.history.unshift({ revision: world.revision, time: new Date().toISOString(), summary });
  world.changed();
}
