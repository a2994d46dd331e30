import type { EventView } from '../api/types';
import { useText } from '../state/preferences';
import { State } from './parts';

/** Newest first. */
export function EventList({ events }: { events: EventView[] }) {
  const { t, time } = useText();
  if (events.length === 0) return <p className="faint">{t('events.none')}</p>;
  return (
    <ul className="lines">
      {events.toReversed().map((event) => (
        <li key={`${event.by} ${event.number} ${event.time}`} className="row">
          <State kind="level" state={event.level} />
          <time className="faint" dateTime={event.time}>
            {time(event.time)}
          </time>
          <span>
            {event.group ? <strong>{event.group}: </strong> : event.node ? <strong>{event.node}: </strong> : null}
            {event.text}
          </span>
        </li>
      ))}
    </ul>
  );
}
