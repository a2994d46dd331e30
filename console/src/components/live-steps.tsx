// What happens after an action was accepted, as the cluster tells it.

import { Alert, Spin } from 'antd';
import { useEffect, useState } from 'react';
import type { Action } from '../api/actions';
import type { EventView, StatusView } from '../api/types';
import { useText } from '../state/preferences';
import { isOld } from '../state/reduce';
import { useCluster } from '../state/store';
import { signs, tone } from '../words/states';
import { State } from './parts';

interface Props {
  action: Action;
  text: string;
  before: StatusView | null;
  /** Number of the newest event before it. */
  since: number;
}

/** Lines shown of what happened meanwhile. */
const LINES = 30;

export function LiveSteps({ action, text, before, since }: Props) {
  const { t, time } = useText();
  const cluster = useCluster();
  const group = cluster.status?.groups.find((view) => view.name === action.about.group);
  const events = cluster.events.filter((event) => event.number > since && concerns(event, action)).slice(-LINES);
  const now = cluster.status;
  const there = Boolean(action.reached && now && before && !isOld(cluster) && action.reached(now, before));
  const [reached, setReached] = useState(false);
  useEffect(() => {
    if (there) setReached(true);
  }, [there]);
  return (
    <div className="stack" aria-live="polite" data-testid="steps">
      <Alert
        type={reached ? 'success' : 'info'}
        showIcon
        message={reached ? t('action.reached') : t('action.done')}
        description={<span className="pre">{text}</span>}
        data-reached={reached}
      />
      {action.reached && !reached && (
        <p>
          <Spin size="small" /> {t('action.running')}
        </p>
      )}
      {group && (
        <div>
          <strong>{group.name}</strong> <State kind="group" state={group.state} /> <span>{group.verdict}</span>
          <ul className="plain">
            {group.resources.map((view) => (
              <li key={view.name}>
                <State kind="resource" state={view.state} /> {view.name}
              </li>
            ))}
          </ul>
        </div>
      )}
      <strong>{t('action.steps')}</strong>
      {events.length === 0 && <span>{t('action.steps.wait')}</span>}
      <ol className="steps" tabIndex={0} aria-label={t('action.steps')}>
        {events.map((event) => (
          <li key={`${event.by} ${event.number}`}>
            <span className={`tone-text-${tone('level', event.level)}`} aria-hidden="true">
              {signs[tone('level', event.level)]}
            </span>{' '}
            <time dateTime={event.time}>{time(event.time)}</time> {event.text}
          </li>
        ))}
      </ol>
    </div>
  );
}

function concerns(event: EventView, action: Action): boolean {
  const { group, node } = action.about;
  if (group) return event.group === group;
  if (node) return event.node === node || event.group !== null;
  return true;
}
