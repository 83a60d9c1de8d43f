/** A text box that suggests what may come next. Works by keyboard as an ARIA combobox. */
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { type Completion, applySuggestion } from "../model/filter/completion";

interface Props {
  label: string;
  placeholder?: string;
  value: string;
  onCommit: (text: string) => void;
  complete: (text: string, cursor: number) => Completion | Promise<Completion>;
  /** Commit while typing, not only on Enter. */
  live?: boolean;
  /** The box that "/" goes to. */
  search?: boolean;
  class?: string;
}

const COMMIT_AFTER_MS = 300;

export function CompletingInput(props: Props) {
  const [text, setText] = useState(props.value);
  const [completion, setCompletion] = useState<Completion | null>(null);
  const [chosen, choose] = useState(-1);
  const box = useRef<HTMLInputElement>(null);
  const asked = useRef(0);
  /** Where the cursor belongs after a suggestion was taken. */
  const taken = useRef<number | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const id = useId();
  const committed = useRef(props.value);

  useEffect(() => {
    if (props.value === committed.current) return;
    committed.current = props.value;
    setText(props.value);
  }, [props.value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  // The cursor can be placed only once the new text is in the box.
  useLayoutEffect(() => {
    const cursor = taken.current;
    taken.current = null;
    if (cursor === null) return;
    box.current?.setSelectionRange(cursor, cursor);
    if (!/[\s)}]$/.test(text.slice(0, cursor))) void suggest(text);
  }, [text]);

  const commit = (next: string) => {
    clearTimeout(timer.current);
    committed.current = next;
    props.onCommit(next);
  };
  const suggest = async (next: string) => {
    const turn = ++asked.current;
    const found = await props.complete(next, box.current?.selectionStart ?? next.length);
    if (turn !== asked.current) return;
    const typed = next.slice(found.start, found.end);
    const isNews = found.suggestions.some(({ insert }) => insert.trimEnd() !== typed);
    setCompletion(isNews ? found : null);
    choose(-1);
  };
  const close = () => {
    asked.current += 1;
    setCompletion(null);
  };
  const edit = (next: string) => {
    setText(next);
    void suggest(next);
    if (!props.live) return;
    clearTimeout(timer.current);
    timer.current = setTimeout(() => commit(next), COMMIT_AFTER_MS);
  };
  const take = (index: number) => {
    const suggestion = completion?.suggestions[index];
    if (!completion || !suggestion) return;
    const next = applySuggestion(text, completion, suggestion);
    taken.current = next.cursor;
    setText(next.text);
    close();
    if (props.live) commit(next.text.trim());
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const count = completion?.suggestions.length ?? 0;
    if (event.key === "ArrowDown" && count > 0) choose((chosen + 1) % count);
    else if (event.key === "ArrowUp" && count > 0) choose((chosen + count) % (count + 1) === count ? -1 : (chosen + count) % (count + 1));
    else if (event.key === "Tab" && count > 0 && !event.shiftKey) take(Math.max(0, chosen));
    else if (event.key === "Enter" && chosen >= 0) take(chosen);
    else if (event.key === "Enter") {
      close();
      commit(text);
    } else if (event.key === "Escape" && completion) close();
    else if (event.key === "Escape") box.current?.blur();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  return (
    <div class={`completing ${props.class ?? ""}`}>
      <input
        ref={box}
        type="text"
        role="combobox"
        aria-label={props.label}
        aria-autocomplete="list"
        aria-expanded={completion !== null}
        aria-controls={id}
        aria-activedescendant={chosen >= 0 ? `${id}-${chosen}` : undefined}
        placeholder={props.placeholder}
        spellcheck={false}
        autocomplete="off"
        data-search={props.search ? "" : undefined}
        value={text}
        onInput={(event) => edit(event.currentTarget.value)}
        onFocus={() => void suggest(text)}
        onClick={() => void suggest(text)}
        onBlur={close}
        onKeyDown={onKeyDown}
      />
      {completion && (
        <ul class="suggestions" role="listbox" id={id} aria-label={`Suggestions for ${props.label}`}>
          {completion.suggestions.map((suggestion, index) => (
            <li
              key={suggestion.label}
              id={`${id}-${index}`}
              role="option"
              aria-selected={index === chosen}
              onPointerDown={(event) => {
                event.preventDefault();
                take(index);
              }}
            >
              <code>{suggestion.label}</code>
              {suggestion.detail && <span>{suggestion.detail}</span>}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
