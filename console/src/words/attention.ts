// What an operator should look at, worst first, as data; the text files make sentences of it.

import type { GroupView, MirrorView, NodeView, StatusView } from '../api/types';
import type { Key, Params } from '../i18n/translate';

export type Severity = 'error' | 'warning' | 'note';

export interface Attention {
  severity: Severity;
  key: Key;
  params: Params;
  /** The cluster's own words on it, in the chosen language if it has them. */
  said?: string;
  /** Where to look, as an address of this page. */
  link?: string;
}

const order: Record<Severity, number> = { error: 0, warning: 1, note: 2 };

export function attention(status: StatusView, mirrors: MirrorView[]): Attention[] {
  const found = [
    ...ofCluster(status),
    ...status.nodes.flatMap((node) => ofNode(status, node)),
    ...status.groups.flatMap(ofGroup),
    ...mirrors.flatMap(ofMirror),
  ];
  return found.sort((a, b) => order[a.severity] - order[b.severity]);
}

function ofCluster(status: StatusView): Attention[] {
  const found: Attention[] = [];
  const { cluster, witness } = status;
  if (status.leader === null) found.push({ severity: 'error', key: 'attention.noLeader', params: {} });
  else if (!status.lease) {
    found.push({ severity: 'warning', key: 'attention.noLease', params: { node: status.node } });
  }
  if (status.disarmed) found.push({ severity: 'warning', key: 'attention.disarmed', params: {} });
  if (cluster.guarantee !== 'single-active') {
    found.push({ severity: 'warning', key: 'attention.bestEffort', params: {}, said: cluster.guarantee_reason });
  }
  if (witness && witness.state !== 'online') {
    found.push({ severity: 'warning', key: 'attention.witness', params: { witness: witness.name } });
  } else if (witness && !witness.votes) {
    found.push({ severity: 'note', key: 'attention.witnessNoVote', params: { witness: witness.name } });
  }
  if (witness?.disk?.problem) {
    found.push({ severity: 'warning', key: 'attention.disk', params: { path: witness.disk.path }, said: witness.disk.problem });
  }
  for (const said of witness?.disk?.warnings ?? []) {
    found.push({ severity: 'note', key: 'attention.diskWarning', params: { path: witness?.disk?.path ?? '' }, said });
  }
  return found;
}

function ofNode(status: StatusView, node: NodeView): Attention[] {
  const found: Attention[] = [];
  const params = { node: node.name };
  const link = '#/nodes';
  if (node.state === 'down') found.push({ severity: 'error', key: 'attention.nodeDown', params, link });
  else if (node.state === 'silent') found.push({ severity: 'error', key: 'attention.nodeSilent', params, link });
  else if (node.state !== 'online') found.push({ severity: 'warning', key: 'attention.nodeGone', params, link });
  else found.push(...ofLinks(node));
  if (node.fencing) found.push({ severity: 'error', key: 'attention.fencing', params, said: node.fencing, link });
  if (node.held_out) found.push({ severity: 'warning', key: 'attention.heldOut', params, link });
  if (node.drained) found.push({ severity: 'note', key: 'attention.drained', params, link });
  if (node.maintenance) found.push({ severity: 'note', key: 'attention.nodeMaintenance', params, link });
  if (!node.votes && status.nodes.length <= 5) {
    found.push({ severity: 'warning', key: 'attention.nodeNoVote', params, link });
  }
  return found;
}

function ofLinks(node: NodeView): Attention[] {
  return node.links.flatMap((view): Attention[] => {
    const params = { node: node.name, link: view.name };
    if (view.state === 'down') return [{ severity: 'warning', key: 'attention.linkDown', params, link: '#/nodes' }];
    const lossy = view.state === 'warning' || view.loss_percent >= 5;
    if (!lossy) return [];
    const loss = { ...params, percent: Math.round(view.loss_percent) };
    return [{ severity: 'warning', key: 'attention.linkLossy', params: loss, link: '#/nodes' }];
  });
}

function ofGroup(group: GroupView): Attention[] {
  const found: Attention[] = [];
  const params = { group: group.name };
  const link = `#/groups/${encodeURIComponent(group.name)}`;
  const add = (severity: Severity, key: Key, said?: string, more: Params = {}) =>
    found.push({ severity, key, params: { ...params, ...more }, link, ...(said ? { said } : {}) });
  if (group.state === 'failed') add('error', 'attention.groupFailed', group.verdict);
  if (group.state === 'cannot run') add('error', 'attention.groupCannot', group.verdict);
  if (group.state === 'unknown') add('error', 'attention.groupUnknown', group.verdict);
  if (group.state === 'degraded') add('warning', 'attention.groupDegraded', group.verdict);
  if (group.active_on.length > 1) add('error', 'attention.groupTwice', undefined, { nodes: group.active_on.join(', ') });
  if (group.state === 'stopped') add('note', 'attention.groupStopped', group.verdict);
  if (group.maintenance) add('note', 'attention.groupMaintenance');
  if (group.disabled) add('note', 'attention.groupDisabled');
  if (group.pinned) add('note', 'attention.groupPinned', group.pinned);
  if (group.stopped_resources.length > 0) {
    add('note', 'attention.resourcesStopped', undefined, { resources: group.stopped_resources.join(', ') });
  }
  for (const view of group.resources.filter((resource) => resource.state === 'runs unasked')) {
    add('error', 'attention.runsUnasked', view.detail, { resource: view.name });
  }
  if (group.state !== 'stopped' && group.active_on.length > 0 && !group.nodes.some((fit) => fit.role === 'standby')) {
    const why = group.nodes.find((fit) => fit.role === 'unfit')?.reason;
    add('warning', 'attention.noStandby', why);
  }
  return found;
}

function ofMirror(mirror: MirrorView): Attention[] {
  const split = mirror.copies.some((copy) => copy.state === 'split-brain');
  const lost = mirror.copies.some((copy) => copy.state === 'lost' || copy.state === 'given up');
  const severity: Severity = split || lost ? 'error' : 'warning';
  return mirror.attention.map((said) => ({
    severity,
    key: 'attention.mirror',
    params: { group: mirror.group, mirror: mirror.name },
    said,
    link: '#/mirrors',
  }));
}
