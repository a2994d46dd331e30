// Which actions make sense for a group as it is now.

import { group as actions, resource } from '../api/actions';
import type { GroupView, ResourceView } from '../api/types';
import type { Offer } from './action-buttons';

export function switchOffer(group: GroupView): Offer | null {
  const from = group.active_on[0];
  if (from === undefined) return null;
  const nodes = group.nodes.filter((fit) => fit.name !== from);
  if (nodes.length === 0) return null;
  const first = nodes.find((fit) => fit.fit) ?? nodes[0];
  const make = (node?: string) => actions.switchTo(group.name, node);
  return { action: make(first?.name), choice: { nodes, make }, primary: true };
}

export function startOffer(group: GroupView): Offer {
  const make = (node?: string) => actions.start(group.name, node);
  return { action: make(), choice: { nodes: group.nodes, make }, primary: true };
}

/** What is offered at once, and what is behind the three dots. */
export function groupOffers(group: GroupView): { offers: Offer[]; more: Offer[] } {
  const offers: Offer[] = [];
  const rests = group.active_on.length === 0;
  const move = switchOffer(group);
  if (move) offers.push(move);
  if (rests) offers.push(startOffer(group));
  if (!rests) offers.push({ action: actions.stop(group.name) });
  offers.push({ action: actions.maintenance(group.name, !group.maintenance) });
  const more: Offer[] = [
    { action: group.disabled ? actions.enable(group.name) : actions.disable(group.name) },
    { action: actions.clear(group.name) },
  ];
  return { offers, more };
}

export function resourceOffers(group: GroupView, view: ResourceView): Offer[] {
  const stopped = group.stopped_resources.includes(view.name);
  const offers = stopped
    ? [resource.start(group.name, view.name)]
    : [resource.restart(group.name, view.name), resource.stop(group.name, view.name)];
  const held = view.state === 'maintenance';
  return [...offers, resource.maintenance(group.name, view.name, !held)].map((action) => ({ action }));
}
