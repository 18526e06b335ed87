/** Makes a button that counts how often it is pressed. */
export function counter(button) {
  button.addEventListener('click', () => {
    button.textContent = String(Number(button.textContent) + 1)
  })
}
