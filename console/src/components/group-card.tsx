import type { GroupView } from '../api/types';
import { useText } from '../state/preferences';
import { tone } from '../words/states';
import { ActionButtons } from './action-buttons';
import { groupOffers } from './group-offers';
import { Mark, State } from './parts';

export function GroupMarks({ group }: { group: GroupView }) {
  const { t } = useText();
  return (
    <span className="row">
      <State kind="group" state={group.state} />
      {group.maintenance && group.state !== 'maintenance' && <Mark tone="hold">{t('group.marks.maintenance')}</Mark>}
      {group.disabled && <Mark tone="hold">{t('group.marks.disabled')}</Mark>}
      {group.pinned && <Mark tone="hold">{t('group.marks.pinned')}</Mark>}
    </span>
  );
}

export function GroupCard({ group }: { group: GroupView }) {
  const { t, state } = useText();
  const { offers, more } = groupOffers(group);
  return (
    <div className={`card tone-edge-${tone('group', group.state)}`} data-group={group.name}>
      <div className="row">
        <h3>
          <a href={`#/groups/${encodeURIComponent(group.name)}`}>{group.name}</a>
        </h3>
        <GroupMarks group={group} />
      </div>
      <p className="faint">{state('group', group.state).means}</p>
      <ul className="plain">
        {group.nodes.map((fit) => (
          <li key={fit.name}>
            {fit.name} <State kind="role" state={fit.role} />
          </li>
        ))}
      </ul>
      {group.nodes
        .filter((fit) => fit.reason !== '')
        .map((fit) => (
          <p key={fit.name} className="faint">
            {fit.name}: {fit.reason}
          </p>
        ))}
      <p>{group.verdict}</p>
      <ActionButtons small offers={offers} more={more} about={t('group.title', { group: group.name })} />
    </div>
  );
}
