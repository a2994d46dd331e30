// A group's resources with what they require, laid out by themselves and coloured by state.

import { Graph, layout } from '@dagrejs/dagre';
import { Background, Controls, type Edge, Handle, type Node, type NodeProps, Position, ReactFlow } from '@xyflow/react';
import '@xyflow/react/dist/style.css';
import { useMemo } from 'react';
import type { GraphView, GroupView } from '../api/types';
import { isKey } from '../i18n/translate';
import { useText } from '../state/preferences';
import { signs, type Tone, tone } from '../words/states';

interface Shown extends Record<string, unknown> {
  name: string;
  kind: string;
  state: string;
  tone: Tone;
}

const WIDTH = 190;
const HEIGHT = 62;

function ResourceNode({ data }: NodeProps<Node<Shown>>) {
  return (
    <div className={`resource-node tone-${data.tone}`} data-resource={data.name}>
      <Handle type="target" position={Position.Right} isConnectable={false} />
      <strong>{data.name}</strong>
      <span>
        <span aria-hidden="true">{signs[data.tone]}</span> {data.state} · {data.kind}
      </span>
      <Handle type="source" position={Position.Left} isConnectable={false} />
    </div>
  );
}

const nodeTypes = { resource: ResourceNode };

export function useKindName(): (kind: string) => string {
  const { t } = useText();
  return (kind) => {
    const key = `kind.${kind}`;
    return isKey(key) ? t(key) : kind;
  };
}

export function Picture({ graph, group }: { graph: GraphView; group: GroupView }) {
  const { t, state, dark } = useText();
  const kindName = useKindName();
  const places = useMemo(() => placed(graph), [graph]);
  const nodes = graph.resources.map((resource): Node<Shown> => {
    const now = group.resources.find((view) => view.name === resource.name)?.state ?? 'unknown';
    const words = state('resource', now).name;
    return {
      id: resource.name,
      type: 'resource',
      position: places.get(resource.name) ?? { x: 0, y: 0 },
      data: { name: resource.name, kind: kindName(resource.kind), state: words, tone: tone('resource', now) },
      ariaLabel: t('group.picture.list', {
        name: resource.name,
        kind: kindName(resource.kind),
        state: words,
        requires: resource.requires.join(', ') || t('common.none'),
      }),
    };
  });
  const edges = graph.resources.flatMap((resource): Edge[] =>
    resource.requires.map((required) => ({
      id: `${resource.name} ${required}`,
      source: resource.name,
      target: required,
      focusable: false,
      markerEnd: { type: 'arrowclosed' as const, width: 18, height: 18 },
    })),
  );
  return (
    <div className="picture" role="group" aria-label={t('group.picture')}>
      <ReactFlow
        nodes={nodes}
        edges={edges}
        nodeTypes={nodeTypes}
        colorMode={dark ? 'dark' : 'light'}
        fitView
        fitViewOptions={{ maxZoom: 1, padding: 0.15 }}
        minZoom={0.2}
        nodesDraggable={false}
        nodesConnectable={false}
        elementsSelectable={false}
        zoomOnScroll={false}
        preventScrolling={false}
        proOptions={{ hideAttribution: true }}
      >
        <Background />
        <Controls showInteractive={false} />
      </ReactFlow>
    </div>
  );
}

/** What is started first is on the left. */
function placed(graph: GraphView): Map<string, { x: number; y: number }> {
  const plan = new Graph();
  plan.setGraph({ rankdir: 'LR', nodesep: 24, ranksep: 60 });
  plan.setDefaultEdgeLabel(() => ({}));
  const known = new Set(graph.resources.map((resource) => resource.name));
  for (const { name } of graph.resources) plan.setNode(name, { width: WIDTH, height: HEIGHT });
  for (const { name, requires } of graph.resources) {
    for (const required of requires.filter((other) => known.has(other))) plan.setEdge(required, name);
  }
  layout(plan);
  return new Map(
    graph.resources.map(({ name }) => {
      const { x, y } = plan.node(name) as { x: number; y: number };
      return [name, { x: x - WIDTH / 2, y: y - HEIGHT / 2 }];
    }),
  );
}
