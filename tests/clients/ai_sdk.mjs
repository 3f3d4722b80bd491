// The Vercel AI SDK against a gateway: node ai_sdk.mjs URL MODEL; prints one JSON object.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [url, model] = process.argv.slice(2);
const require = createRequire(pathToFileURL(process.env.CLIENTS + '/x.js'));
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { generateText, streamText, generateObject, embed, tool, stepCountIs } = await load('ai');
const { createOpenAI } = await load('@ai-sdk/openai');
const { createOpenAICompatible } = await load('@ai-sdk/openai-compatible');
const { createAnthropic } = await load('@ai-sdk/anthropic');
const { z } = await load('zod');

const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: 'none' });
const compatible = createOpenAICompatible({ name: 'suffice', baseURL: `${url}/v1`, apiKey: 'none' });
const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey: 'none' });
const speakers = {
  responses: openai(model),  // its default
  chat: openai.chat(model),
  compatible: compatible(model),
  messages: anthropic(model),
};
const weather = tool({
  description: 'The weather of a city.',
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `sunny in ${city}`,
});
const found = {};
for (const [name, speaker] of Object.entries(speakers)) {
  const one = { model: speaker, maxRetries: 0 };
  const whole = await generateText({ ...one, prompt: 'what is 2+2?' });
  const streamed = streamText({ ...one, prompt: 'what is 2+2?' });
  let text = '';
  for await (const piece of streamed.textStream) text += piece;
  const tools = await generateText({
    ...one, prompt: 'what is the weather?', tools: { weather }, stopWhen: stepCountIs(3),
  });
  const person = await generateObject({
    ...one, prompt: 'which person?', schema: z.object({ name: z.string(), age: z.number() }),
  });
  found[name] = {
    text: whole.text, tokens: whole.usage.outputTokens, streamed: text,
    steps: tools.steps.length, tools: tools.text, person: person.object,
  };
}
const vector = await embed({ model: compatible.textEmbeddingModel('fake'), value: 'a' });
found.embedding = vector.embedding;
console.log(JSON.stringify(found));
