import { Button, Input, Select, Table } from 'antd';
import { useMemo, useState } from 'react';
import { command } from '../api/actions';
import type { EventView } from '../api/types';
import { Cli, State } from '../components/parts';
import { useText } from '../state/preferences';
import { useCluster } from '../state/store';
import { csv, download, everything, type Filter, passes } from '../words/export';

const LEVELS = ['error', 'warning', 'cleared', 'message'];

export default function Events() {
  const { t, time, state } = useText();
  const { events, status } = useCluster();
  const [filter, setFilter] = useState<Filter>(everything);
  const shown = useMemo(() => events.filter((event) => passes(event, filter)).toReversed(), [events, filter]);
  const set = (part: Partial<Filter>) => setFilter((old) => ({ ...old, ...part }));
  const choices = (names: string[], name: (value: string) => string = (value) => value) => [
    { value: '', label: t('common.all') },
    ...names.map((value) => ({ value, label: name(value) })),
  ];
  const nodes = [...new Set([...(status?.nodes.map((node) => node.name) ?? []), ...events.map((event) => event.by)])];
  const groups = [...new Set([...(status?.groups.map((group) => group.name) ?? []), ...events.flatMap((event) => event.group ?? [])])];
  const chosen = shown.toReversed();
  const columns = [
    { title: t('events.time'), dataIndex: 'time', width: 170, render: (value: string) => <time dateTime={value}>{time(value)}</time> },
    { title: t('events.level'), dataIndex: 'level', width: 110, render: (value: string) => <State kind="level" state={value} /> },
    { title: t('events.node'), key: 'node', width: 110, render: (_: unknown, event: EventView) => event.node ?? event.by },
    { title: t('events.group'), dataIndex: 'group', width: 120, render: (value: string | null) => value ?? '' },
    { title: t('events.what'), dataIndex: 'text' },
  ];
  return (
    <div className="page">
      <h1>{t('events.title')}</h1>
      <div className="filters" role="search">
        <label htmlFor="level">
          {t('events.level')}
          <Select id="level" value={filter.level} options={choices(LEVELS, (level) => state('level', level).name)} onChange={(level) => set({ level })} />
        </label>
        <label htmlFor="node">
          {t('events.node')}
          <Select id="node" value={filter.node} options={choices(nodes)} onChange={(node) => set({ node })} />
        </label>
        <label htmlFor="group">
          {t('events.group')}
          <Select id="group" value={filter.group} options={choices(groups)} onChange={(group) => set({ group })} />
        </label>
        <label htmlFor="text">
          {t('events.text')}
          <Input id="text" allowClear value={filter.text} onChange={(change) => set({ text: change.target.value })} />
        </label>
        <Button onClick={() => setFilter(everything)}>{t('events.reset')}</Button>
        <Button onClick={() => download('events.csv', 'text/csv;charset=utf-8', csv(chosen))}>{t('events.csv')}</Button>
        <Button onClick={() => download('events.json', 'application/json', `${JSON.stringify(chosen, null, 2)}\n`)}>{t('events.json')}</Button>
      </div>
      <p role="status" className="faint">
        {t('events.count', { shown: shown.length, all: events.length })}
      </p>
      <div className="live-data">
        <Table<EventView>
          size="small"
          columns={columns}
          dataSource={shown}
          rowKey={(event) => `${event.by} ${event.number} ${event.time}`}
          locale={{ emptyText: t('events.none') }}
          pagination={{ pageSize: 50, showSizeChanger: false, hideOnSinglePage: true }}
          scroll={{ x: 720 }}
        />
      </div>
      <Cli command={command('events', '--follow')} />
    </div>
  );
}
